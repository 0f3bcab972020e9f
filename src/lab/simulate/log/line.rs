//! One line of the log: parsing, and the request that it is about.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, SystemTime};

use http::Method;
use serde::Deserialize;

use crate::lab::simulate::trace::Target;
use crate::record;
use crate::region::Region;
use crate::token::SkillId;

/// The fields of a line that matter here.
#[derive(Deserialize)]
struct LogLine {
    timestamp: String,
    target: String,
    trace_id: Option<String>,
    method: String,
    template: Option<String>,
    region: Option<String>,
    skill: Option<String>,
    cache: Option<String>,
    total_ms: f64,
}

/// A logged request, before it is known which token it carried.
pub(super) struct LoggedRequest {
    /// Since the Unix epoch.
    pub(super) began: Duration,
    pub(super) skill: u32,
    pub(super) target: u32,
    pub(super) region: Region,
    pub(super) trace_id: Option<u32>,
    pub(super) evidence: TokenEvidence,
}

/// What the cache status of a request says about its token. Requests that began at the
/// same moment are taken in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TokenEvidence {
    /// It caused a call: nothing is known.
    Called,
    /// It refused the stored response for its token.
    RefusedStored,
    /// It used or renewed the response of an earlier request with the same token.
    Shared,
}

impl TokenEvidence {
    fn of(cache: Option<&str>) -> Self {
        match cache {
            Some("hit" | "hit_stale" | "collapsed" | "stale") => Self::Shared,
            Some("request") => Self::RefusedStored,
            _ => Self::Called,
        }
    }
}

/// Parses lines and numbers the skills, targets and trace ids in them.
#[derive(Default)]
pub(super) struct LineParser {
    pub(super) skills: Interner<Option<SkillId>>,
    pub(super) targets: Interner<Target>,
    trace_ids: Interner<String>,
}

impl LineParser {
    /// Returns the request that a line is about; `None` for other lines and for requests
    /// that were rejected before they had a region and a template.
    pub(super) fn parse(&mut self, line: &[u8]) -> Option<LoggedRequest> {
        let line: LogLine = serde_json::from_slice(line).ok()?;
        if line.target != record::TARGET {
            return None;
        }
        let ended = humantime::parse_rfc3339(&line.timestamp).ok()?;
        let ended = ended.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let took = Duration::try_from_secs_f64(line.total_ms / 1e3).ok()?;
        let target = Target {
            method: line.method.parse::<Method>().ok()?,
            path: fill_in(&line.template?),
        };
        let region = line.region?;
        let region = Region::ALL.into_iter().find(|r| r.name() == region)?;
        // The log has no skill for tokens that name none.
        let skill = line.skill.as_deref().and_then(SkillId::parse);
        let trace_id = match line.trace_id {
            Some(id) => Some(self.trace_ids.number(id)?),
            None => None,
        };
        Some(LoggedRequest {
            began: ended.checked_sub(took)?,
            skill: self.skills.number(skill)?,
            target: self.targets.number(target)?,
            region,
            trace_id,
            evidence: TokenEvidence::of(line.cache.as_deref()),
        })
    }
}

/// Replaces the placeholders of a template.
fn fill_in(template: &str) -> String {
    let segment = |segment| {
        let segment: &str = segment;
        if segment.starts_with('{') && segment.ends_with('}') {
            "simulated"
        } else {
            segment
        }
    };
    let segments: Vec<_> = template.split('/').map(segment).collect();
    segments.join("/")
}

/// Numbers values in the order of their first appearance.
pub(super) struct Interner<T> {
    pub(super) values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            numbers: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn number(&mut self, value: T) -> Option<u32> {
        if let Some(number) = self.numbers.get(&value) {
            return Some(*number);
        }
        let number = u32::try_from(self.values.len()).ok()?;
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        Some(number)
    }
}
