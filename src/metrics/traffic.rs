//! Traffic per region and per skill, for the status page.
//!
//! Counting takes no lock: a skill's counters are found in a table that is replaced
//! whole when a skill is new, which is at most [`MAX_SKILLS_LISTED`] times.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::region::Region;
use crate::token::SkillId;

/// How many skills the status page tells apart.
pub const MAX_SKILLS_LISTED: usize = 1000;

/// Requests of one region or skill, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// All requests.
    pub requests: u64,
    /// Those that a stored answer served.
    pub hits: u64,
    /// Those that shared another's call.
    pub collapsed: u64,
    /// Those that the gateway answered 429 itself.
    pub refused_429: u64,
    /// Those that failed in the gateway for another reason.
    pub errors: u64,
    /// Calls to Alexa, each attempt counted.
    pub upstream_attempts: u64,
    /// Calls that Alexa answered 429.
    pub upstream_429: u64,
}

/// One of the figures of [`Counts`].
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// [`Traffic`] as it is being counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: Count,
    pub(super) hits: Count,
    pub(super) collapsed: Count,
    pub(super) refused_429: Count,
    pub(super) errors: Count,
    pub(super) upstream_attempts: Count,
    pub(super) upstream_429: Count,
}

impl Counts {
    fn snapshot(&self) -> Traffic {
        Traffic {
            requests: self.requests.get(),
            hits: self.hits.get(),
            collapsed: self.collapsed.get(),
            refused_429: self.refused_429.get(),
            errors: self.errors.get(),
            upstream_attempts: self.upstream_attempts.get(),
            upstream_429: self.upstream_429.get(),
        }
    }
}

type Skills = HashMap<SkillId, Arc<Counts>>;

/// The traffic of one process.
#[derive(Debug, Default)]
pub(super) struct Table {
    regions: [Counts; Region::ALL.len()],
    skills: ArcSwap<Skills>,
    other_skills: Counts,
}

impl Table {
    /// Counts, with `add`, for a region and for a skill.
    pub(super) fn add(
        &self,
        region: Option<Region>,
        skill: Option<&SkillId>,
        add: impl Fn(&Counts),
    ) {
        if let Some(region) = region {
            add(&self.regions[region.index()]);
        }
        let Some(skill) = skill else { return };
        let skills = self.skills.load();
        match skills.get(skill) {
            Some(counts) => add(counts),
            None if skills.len() < MAX_SKILLS_LISTED => {
                drop(skills);
                add(self.list(skill).as_deref().unwrap_or(&self.other_skills));
            }
            None => add(&self.other_skills),
        }
    }

    /// The counters of a skill that was new a moment ago, unless there is no room.
    fn list(&self, skill: &SkillId) -> Option<Arc<Counts>> {
        self.skills.rcu(|skills| {
            let mut skills = Skills::clone(skills);
            if skills.len() < MAX_SKILLS_LISTED {
                skills.entry(skill.clone()).or_default();
            }
            skills
        });
        self.skills.load().get(skill).cloned()
    }

    /// The regions that had traffic, and the skills, by name.
    pub(super) fn snapshot(&self) -> (BTreeMap<&'static str, Traffic>, BTreeMap<String, Traffic>) {
        let had_any = |traffic: &Traffic| *traffic != Traffic::default();
        let regions = Region::ALL
            .into_iter()
            .map(|region| (region.name(), self.regions[region.index()].snapshot()))
            .filter(|(_, traffic)| had_any(traffic));
        let skills = self.skills.load();
        let skills = skills
            .iter()
            .map(|(skill, counts)| (skill.to_string(), counts.snapshot()));
        let other = Some(self.other_skills.snapshot())
            .filter(had_any)
            .map(|traffic| ("other".to_owned(), traffic));
        (regions.collect(), skills.chain(other).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_skills_cannot_fill_the_status_page() {
        let table = Table::default();
        for n in 0..MAX_SKILLS_LISTED + 5 {
            let skill = SkillId::parse(&format!("amzn1.ask.skill.{n}")).unwrap();
            table.add(Some(Region::Eu), Some(&skill), |counts| counts.hits.count());
        }
        let (regions, skills) = table.snapshot();
        assert_eq!(regions.len(), 1);
        assert_eq!(regions["eu"].hits, 1005);
        assert_eq!(skills.len(), MAX_SKILLS_LISTED + 1);
        assert_eq!(skills["other"].hits, 5);
    }
}
