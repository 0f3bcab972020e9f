//! Traffic per region and per skill, for the status page.
//!
//! Counting takes no lock. The table of skills is copied when a skill is new, which
//! happens at most [`MAX_SKILLS_LISTED`] times.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::region::Region;
use crate::token::SkillId;

/// How many skills the status page lists.
pub const MAX_SKILLS_LISTED: usize = 1000;

/// The traffic of one region or skill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// All requests.
    pub requests: u64,
    /// Requests served with a stored response.
    pub hits: u64,
    /// Requests that shared the call of another one.
    pub collapsed: u64,
    /// Requests that the gateway itself refused with a 429.
    pub refused_429: u64,
    /// Requests that got another error response of the gateway.
    pub errors: u64,
    /// Calls to Alexa; each attempt counts.
    pub upstream_attempts: u64,
    /// Calls to which Alexa responded with a 429.
    pub upstream_429: u64,
}

/// One counter of [`TrafficCounters`].
#[derive(Debug, Default)]
pub(super) struct TrafficCounter(AtomicU64);

impl TrafficCounter {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// [`Traffic`] while it is counted.
#[derive(Debug, Default)]
pub(super) struct TrafficCounters {
    pub(super) requests: TrafficCounter,
    pub(super) hits: TrafficCounter,
    pub(super) collapsed: TrafficCounter,
    pub(super) refused_429: TrafficCounter,
    pub(super) errors: TrafficCounter,
    pub(super) upstream_attempts: TrafficCounter,
    pub(super) upstream_429: TrafficCounter,
}

impl TrafficCounters {
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

type SkillTraffic = HashMap<SkillId, Arc<TrafficCounters>>;

/// The traffic of one process.
#[derive(Debug, Default)]
pub(super) struct TrafficTable {
    regions: [TrafficCounters; Region::ALL.len()],
    skills: ArcSwap<SkillTraffic>,
    other_skills: TrafficCounters,
}

impl TrafficTable {
    /// Applies `add` to the counters of a region and of a skill.
    pub(super) fn add(
        &self,
        region: Option<Region>,
        skill: Option<&SkillId>,
        add: impl Fn(&TrafficCounters),
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
                add(self.insert(skill).as_deref().unwrap_or(&self.other_skills));
            }
            None => add(&self.other_skills),
        }
    }

    /// Adds a skill; `None` if the table is full.
    fn insert(&self, skill: &SkillId) -> Option<Arc<TrafficCounters>> {
        self.skills.rcu(|skills| {
            let mut skills = SkillTraffic::clone(skills);
            if skills.len() < MAX_SKILLS_LISTED {
                skills.entry(skill.clone()).or_default();
            }
            skills
        });
        self.skills.load().get(skill).cloned()
    }

    /// The traffic of the regions that had any, and of the skills, by name.
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
    fn skills_above_the_limit_are_listed_as_other() {
        let table = TrafficTable::default();
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
