//! A trace out of the log that `serve` writes with `log.format = "json"`.
//!
//! A line is written when its request ends; `total_ms` tells when it began. The
//! log holds no tokens, so who shared one is inferred: a request that a stored
//! answer served, or that shared a call, had the token of the latest request of
//! the same skill, region and template that did call; and requests of one skill
//! and trace id belong to one turn. Every other request gets a token of its own.
//! What callers said about time is not logged and not replayed, nor are bodies.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead};
use std::time::{Duration, SystemTime};

use http::Method;
use serde::Deserialize;

use super::trace::{Ask, Target, Trace};
use crate::record;
use crate::region::Region;
use crate::token::SkillId;

/// A log, read.
#[derive(Debug)]
pub struct Read {
    /// What it says about requests.
    pub trace: Trace,
    /// How many there are.
    pub requests: u64,
    /// How many lines are about something else, or of requests that went nowhere.
    pub skipped: u64,
}

/// A log cannot be used.
#[derive(Debug)]
pub enum LogError {
    /// It cannot be read.
    Read(io::Error),
    /// None of its lines is about a request; the number says how many there are.
    NoRequests(u64),
    /// From its first request to its last it is this long, which is more than
    /// [`LONGEST`].
    TooLong(Duration),
}

/// The longest log that is replayed. Every second of a trace takes memory, whether
/// anything comes in it or not, and one line with a wrong date may be decades away.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot read the log: {error}"),
            Self::NoRequests(lines) => write!(
                f,
                "none of its {lines} lines is the line of a request; record one by running \
                 serve with log.format = \"json\" and log.requests = true, level info"
            ),
            Self::TooLong(length) => write!(
                f,
                "its requests are spread over {}, and no more than {} can be replayed: cut it, or \
                 leave out lines with a wrong timestamp",
                humantime::format_duration(Duration::from_secs(length.as_secs())),
                humantime::format_duration(LONGEST),
            ),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::NoRequests(_) | Self::TooLong(_) => None,
        }
    }
}

/// The fields of a line that matter here.
#[derive(Deserialize)]
struct Line {
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

/// A request, before it is known whose token it carries.
struct Entry {
    began: Duration,
    skill: u32,
    target: u32,
    region: Region,
    trace_id: Option<u32>,
    cache: Use,
}

/// What the cache did for a request, as far as it tells about tokens. In the order
/// in which requests that began at once are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// It called, with a token of which nothing is known.
    Called,
    /// It refused what was stored for its token, and called.
    Refused,
    /// It used or renewed what an earlier one had called for.
    Shared,
}

/// Reads a log. Lines may be in any order.
///
/// # Errors
/// It cannot be read, holds no request, or is longer than [`LONGEST`].
pub fn read(mut log: impl BufRead) -> Result<Read, LogError> {
    let mut names = Names::default();
    let (mut entries, mut skipped) = (Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if log.read_until(b'\n', &mut line).map_err(LogError::Read)? == 0 {
            break;
        }
        match names.entry(&line) {
            Some(entry) => entries.push(entry),
            None => skipped += u64::from(!line.trim_ascii().is_empty()),
        }
    }
    entries.sort_by_key(|entry| (entry.began, entry.cache));
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(LogError::NoRequests(skipped));
    };
    let (first, length) = (first.began, last.began - first.began);
    if length > LONGEST {
        return Err(LogError::TooLong(length));
    }
    let mut turns = Turns::default();
    let asks: Vec<_> = entries
        .iter()
        .map(|entry| Ask {
            at: entry.began - first,
            turn: turns.of(entry),
            skill: entry.skill,
            target: entry.target,
            timeout_ms: 0,
            region: entry.region,
            no_cache: entry.cache == Use::Refused,
        })
        .collect();
    Ok(Read {
        requests: asks.len() as u64,
        skipped,
        trace: Trace::of(names.skills.list, names.targets.list, asks),
    })
}

/// Texts that come often, by number.
#[derive(Default)]
struct Names {
    skills: Numbered<Option<SkillId>>,
    targets: Numbered<Target>,
    traces: HashMap<String, u32>,
}

impl Names {
    /// The request that a line is about, if it is about one that went somewhere.
    fn entry(&mut self, line: &[u8]) -> Option<Entry> {
        let line: Line = serde_json::from_slice(line).ok()?;
        if line.target != record::TARGET {
            return None;
        }
        let ended = humantime::parse_rfc3339(&line.timestamp).ok()?;
        let ended = ended.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let took = Duration::try_from_secs_f64(line.total_ms / 1e3).ok()?;
        let region = line.region?;
        let region = Region::ALL.into_iter().find(|r| r.name() == region)?;
        let target = Target {
            method: line.method.parse::<Method>().ok()?,
            path: filled_in(&line.template?),
        };
        // What a token does not name, the log has no field for.
        let skill = line.skill.as_deref().and_then(SkillId::parse);
        let next = u32::try_from(self.traces.len()).ok()?;
        let trace_id = line
            .trace_id
            .map(|id| *self.traces.entry(id).or_insert(next));
        Some(Entry {
            began: ended.checked_sub(took)?,
            skill: self.skills.number(skill)?,
            target: self.targets.number(target)?,
            region,
            trace_id,
            cache: match line.cache.as_deref() {
                Some("hit" | "hit_stale" | "collapsed" | "stale") => Use::Shared,
                Some("request") => Use::Refused,
                _ => Use::Called,
            },
        })
    }
}

/// A path with something in the places of ids.
fn filled_in(template: &str) -> String {
    let segment = |segment: &str| match segment.starts_with('{') && segment.ends_with('}') {
        true => "simulated".to_owned(),
        false => segment.to_owned(),
    };
    let segments: Vec<_> = template.split('/').map(segment).collect();
    segments.join("/")
}

struct Numbered<T> {
    list: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            numbers: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Numbered<T> {
    fn number(&mut self, value: T) -> Option<u32> {
        if let Some(number) = self.numbers.get(&value) {
            return Some(*number);
        }
        let number = u32::try_from(self.list.len()).ok()?;
        self.list.push(value.clone());
        self.numbers.insert(value, number);
        Some(number)
    }
}

/// Who carried whose token.
#[derive(Default)]
struct Turns {
    made: u32,
    /// By skill, region and trace.
    of_trace: HashMap<(u32, Region, u32), u32>,
    /// The latest that called, by skill, region and target.
    latest: HashMap<(u32, Region, u32), u32>,
}

impl Turns {
    fn of(&mut self, entry: &Entry) -> u32 {
        let same = (entry.skill, entry.region, entry.target);
        let traced = entry.trace_id.map(|id| (entry.skill, entry.region, id));
        let known = traced.and_then(|traced| self.of_trace.get(&traced));
        let shared = || {
            let latest = self.latest.get(&same);
            latest.filter(|_| entry.cache != Use::Called)
        };
        let turn = known.or_else(shared).copied().unwrap_or_else(|| {
            self.made += 1;
            self.made - 1
        });
        if let Some(traced) = traced {
            self.of_trace.insert(traced, turn);
        }
        self.latest.insert(same, turn);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "/v2/persons/~current/profile/name";

    /// A line that ended at a second of a minute.
    fn line(
        second: f64,
        total_ms: f64,
        skill: &str,
        cache: &str,
        trace_id: Option<&str>,
    ) -> String {
        let line = serde_json::json!({
            "timestamp": format!("2026-11-24T07:00:{second:09.6}Z"), "level": "INFO",
            "message": "request", "target": "alexa_gateway::request", "request_id": "1",
            "trace_id": trace_id, "method": "GET", "template": NAME, "region": "eu",
            "family": "profile", "skill": format!("amzn1.ask.skill.{skill}"), "status": 200,
            "cache": cache, "total_ms": total_ms,
        });
        format!("{line}\n")
    }

    fn turns(log: &str) -> Vec<u32> {
        let read = read(log.as_bytes()).unwrap();
        read.trace.asks().map(|ask| ask.turn).collect()
    }

    #[test]
    fn requests_are_in_the_order_in_which_they_began() {
        let log = line(5.0, 100.0, "b", "miss", None) + &line(4.0, 2500.0, "a", "miss", None);
        let read = read(log.as_bytes()).unwrap();
        let asks: Vec<_> = read.trace.asks().collect();
        let at: Vec<_> = asks.iter().map(|ask| ask.at.as_millis()).collect();
        assert_eq!(at, [0, 3400]);
        let first = &read.trace.skills[asks[0].skill as usize];
        assert_eq!(first.as_ref().unwrap().as_str(), "amzn1.ask.skill.a");
    }

    #[test]
    fn who_used_or_shared_a_call_had_the_token_of_the_latest_that_called() {
        let log = line(1.0, 60.0, "a", "miss", None)
            + &line(1.0, 50.0, "a", "collapsed", None)
            + &line(2.0, 0.1, "a", "hit", None)
            + &line(3.0, 60.0, "a", "miss", None)
            + &line(4.0, 0.1, "a", "hit", None)
            + &line(5.0, 60.0, "b", "miss", None)
            + &line(6.0, 60.0, "a", "request", None);
        assert_eq!(turns(&log), [0, 0, 0, 1, 1, 2, 1]);
    }

    #[test]
    fn a_trace_is_one_turn() {
        let log = line(1.0, 60.0, "a", "miss", Some("x"))
            + &line(2.0, 60.0, "a", "miss", Some("y"))
            + &line(3.0, 60.0, "a", "miss", Some("x"))
            + &line(4.0, 0.1, "a", "hit", Some("z"))
            + &line(5.0, 60.0, "b", "miss", Some("x"));
        assert_eq!(turns(&log), [0, 1, 0, 0, 2]);
    }

    #[test]
    fn other_lines_are_counted_and_a_log_without_requests_is_an_error() {
        let noise = "{\"target\":\"alexa_gateway\",\"message\":\"stopped\"}\nnot json\n\n\
            {\"timestamp\":\"2026-11-24T07:00:00Z\",\"target\":\"alexa_gateway::request\",\
             \"method\":\"GET\",\"status\":400,\"total_ms\":0.1}\n";
        let log = noise.to_owned() + &line(1.0, 60.0, "a", "miss", None);
        let found = read(log.as_bytes()).unwrap();
        assert_eq!((found.requests, found.skipped), (1, 3));
        let error = read(noise.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("none of its 3 lines") && error.contains("log.format"));
        assert!(read(&b""[..]).is_err());
    }

    #[test]
    fn a_log_with_a_wrong_date_is_an_error_not_decades_of_silence() {
        let long_ago = line(1.0, 60.0, "a", "miss", None).replace("2026-11-24", "1970-01-01");
        let log = line(1.0, 60.0, "a", "miss", None) + &long_ago;
        let error = read(log.as_bytes()).unwrap_err().to_string();
        assert!(
            error.contains("56years") && error.contains("7days"),
            "{error}"
        );
    }
}
