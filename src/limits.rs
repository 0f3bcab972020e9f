//! Quotas, permits, and the queue in front of them.
//!
//! Every call to Alexa needs a [`Permit`], and only [`Limits::admit`] makes one.
//! Each of the three regions has a lane for each [`Family`] of calls, so that a
//! progressive response never waits behind profile calls. A lane keeps quotas
//! strictly (see [`window`]): the region's, each skill's, and, where Alexa has
//! answered 429, what it has learned of a quota that nobody publishes.
//!
//! | room | job |
//! |---|---|
//! | `quota`, [`window`], `pace`, `gate` | one quota: as said, its slots, the pace within, both |
//! | `adaptive` | what is believed of a hidden quota (pure) |
//! | `share` | how many of a region's slots a skill may hold (pure) |
//! | `tenant`, `queue` | one skill; who waits, who goes next and when, who is told apart |
//! | `lane` | the lock, the wake-ups, the permits |
//!
//! State outlives a reload: [`Limits::reconfigure`] resizes quotas in place.

mod adaptive;
mod estimate;
mod gate;
mod lane;
mod pace;
mod queue;
mod quota;
mod share;
mod tenant;
pub mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use lane::Lane;
pub use lane::Permit;
pub use quota::{Quota, QuotaError};

use crate::region::Region;
use crate::token::SkillId;

/// Which calls share a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// GETs of the cached templates.
    Profile,
    /// Everything else.
    Passthrough,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::Profile, Self::Passthrough];

    /// The name in configuration, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Passthrough => "passthrough",
        }
    }
}

/// The limits of one family; without a quota, nothing is limited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FamilyLimits {
    /// Whether quotas that are not configured are learned from 429s.
    pub adaptive: bool,
    /// The quota of all calls to a region.
    pub region: Option<Quota>,
    /// The quota of the calls of one skill to a region.
    pub skill: Option<Quota>,
    /// What differs for single skills.
    pub skills: Arc<BTreeMap<SkillId, SkillLimits>>,
}

/// What differs for one skill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkillLimits {
    /// Its quota in place of [`FamilyLimits::skill`].
    pub quota: Option<Quota>,
    /// Its part of the region's quota when skills compete: twice the weight, twice
    /// the part. At least 1.
    pub weight: u32,
    /// How many requests of the region's quota, in each of its windows, are kept
    /// for this skill alone.
    pub floor: u32,
}

impl FamilyLimits {
    /// Quota, weight and floor of a tenant.
    fn of(&self, skill: Option<&SkillId>) -> (Option<Quota>, u32, u32) {
        match skill.and_then(|skill| self.skills.get(skill)) {
            Some(own) => (own.quota.or(self.skill), own.weight, own.floor),
            None => (self.skill, 1, 0),
        }
    }

    /// Whether this is a skill like any other, with nothing configured for it.
    fn is_any(&self, skill: Option<&SkillId>) -> bool {
        skill.is_some_and(|skill| !self.skills.contains_key(skill))
    }

    fn floors(&self) -> usize {
        self.skills.values().map(|own| own.floor as usize).sum()
    }

    /// Whether any skill's window is longer than in `old`, or new: then what was
    /// sent before is not known of skills that are not known.
    fn lengthens(&self, old: &Self) -> bool {
        let skills = self.skills.keys().chain(old.skills.keys()).map(Some);
        skills
            .chain([None])
            .any(|skill| match (self.of(skill).0, old.of(skill).0) {
                (Some(new), Some(old)) => old.per < new.per,
                (new, _) => new.is_some(),
            })
    }
}

/// Bounds on what a lane remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// How many requests may wait in one lane.
    pub max_queue: usize,
    /// How many skills have a quota of their own in one lane at a time. Those in
    /// [`FamilyLimits::skills`] have one beyond that, too.
    pub max_skills: usize,
}

/// Everything that is configured about limits.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Limits for [`Family::Profile`].
    pub profile: FamilyLimits,
    /// Limits for [`Family::Passthrough`].
    pub passthrough: FamilyLimits,
    /// Bounds on each lane.
    pub queue: QueueLimits,
}

impl LimitsConfig {
    fn of(&self, family: Family) -> &FamilyLimits {
        match family {
            Family::Profile => &self.profile,
            Family::Passthrough => &self.passthrough,
        }
    }
}

/// Where a request enters the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Behind those of its skill that came before.
    New,
    /// Before those that are new: it was sent once already, has waited for longer,
    /// and has less time left.
    Retry,
}

/// What a request would wait for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The region's quota.
    Region,
    /// The skill's quota, configured or learned, or a pause that Alexa asked for.
    Skill,
    /// The queue is full, whatever the quotas.
    Queue,
}

impl Scope {
    /// The word for messages, logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Skill => "skill",
            Self::Queue => "queue",
        }
    }
}

/// What an answer says about the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Upstream took the call, whatever came of it.
    Counted,
    /// Upstream answered 429.
    Throttled {
        /// How long it asked to stay away.
        retry_after: Option<Duration>,
    },
}

/// A request was not admitted: it would have had to wait for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// How long it would have had to wait.
    pub wait: Duration,
    /// What for.
    pub scope: Scope,
}

/// One lane as the status page shows it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LaneSnapshot {
    /// The region's quota.
    pub quota_region: Option<Quota>,
    /// The quota of each skill.
    pub quota_skill: Option<Quota>,
    /// Calls on their way.
    pub in_flight: u32,
    /// Slots of the region's quota that are held or cooling.
    pub region_slots_used: usize,
    /// Requests that wait for a permit.
    pub queued: usize,
    /// Skills that are remembered.
    pub skills: usize,
    /// Skills whose quota is being learned, since Alexa has answered them 429.
    pub learned_skills: usize,
    /// Skills that are paused after a 429.
    pub paused_skills: usize,
    /// How long answers have taken of late.
    pub round_trip_seconds: f64,
}

/// What has been learned of one skill's quota.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// The skill; none for requests that name none.
    pub skill: Option<String>,
    /// The rate in force.
    pub limit_per_second: f64,
    /// The rate that is thought to be allowed; the one in force is below it after
    /// a 429 and above it during a try.
    pub safe_per_second: f64,
    /// From 0, a first guess, towards 1, as the same ceiling is met again.
    pub confidence: f64,
    /// How many 429s there were.
    pub throttled: u64,
    /// How long ago the last one was.
    pub last_429_seconds_ago: u64,
    /// For how much longer nothing is sent.
    pub paused_seconds: f64,
    /// How many requests wait.
    pub queued: usize,
}

/// How many skills are listed with what was learned of them.
pub const MAX_LEARNED_LISTED: usize = 100;

/// The lanes of all regions. Dropping it ends the tasks that hand out permits.
pub struct Limits {
    lanes: [[Arc<Lane>; 2]; 3],
    tasks: Vec<JoinHandle<()>>,
}

impl Limits {
    /// Opens the lanes. Must be called within a runtime.
    #[must_use]
    pub fn new(config: &LimitsConfig) -> Self {
        let lanes = Region::ALL.map(|region| {
            Family::ALL.map(|family| {
                let limits = config.of(family).clone();
                Arc::new(Lane::new(region, family, limits, config.queue))
            })
        });
        let tasks = lanes
            .iter()
            .flatten()
            .map(|lane| tokio::spawn(Arc::clone(lane).run()));
        Self {
            tasks: tasks.collect(),
            lanes,
        }
    }

    /// Waits for the right to make one call, in order, and no longer than it
    /// takes to see that the wait does not fit the deadline. Cancelling gives up
    /// the place in the queue.
    ///
    /// # Errors
    /// The expected wait and the usual time of an answer do not fit the deadline,
    /// or too many wait already.
    pub async fn admit(
        &self,
        region: Region,
        family: Family,
        skill: Option<&SkillId>,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Permit, Refusal> {
        let lane = self.lane(region, family);
        lane.admit(skill, priority, deadline).await
    }

    /// Tells whether a request that came now could be served before `deadline`.
    ///
    /// # Errors
    /// It could not; see [`Limits::admit`].
    pub fn check(
        &self,
        region: Region,
        family: Family,
        skill: Option<&SkillId>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        self.lane(region, family).check(skill, deadline)
    }

    /// Whether a 429 is learned from, and pauses its skill.
    #[must_use]
    pub fn learns(&self, region: Region, family: Family) -> bool {
        self.lane(region, family).learns()
    }

    /// Applies a new configuration to the lanes as they are.
    pub fn reconfigure(&self, config: &LimitsConfig) {
        for lanes in &self.lanes {
            for (family, lane) in Family::ALL.into_iter().zip(lanes) {
                lane.reconfigure(config.of(family).clone(), config.queue);
            }
        }
    }

    /// How one lane stands.
    #[must_use]
    pub fn snapshot(&self, region: Region, family: Family) -> LaneSnapshot {
        self.lane(region, family).snapshot()
    }

    /// What one lane has learned: the skills that were throttled last, up to
    /// [`MAX_LEARNED_LISTED`].
    #[must_use]
    pub fn learned(&self, region: Region, family: Family) -> Vec<Learned> {
        self.lane(region, family).learned()
    }

    fn lane(&self, region: Region, family: Family) -> &Arc<Lane> {
        &self.lanes[region.index()][family as usize]
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
