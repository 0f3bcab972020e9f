//! Quotas: who may call Alexa, and when.
//!
//! Every call to Alexa needs a [`Permit`], and only [`Limits::admit`] makes one. Each
//! region has one lane for each [`Family`] of calls, so a progressive response never
//! waits behind profile calls. A lane keeps the region's quota, each skill's quota,
//! and a learned quota for each skill that Alexa has answered 429. Skills share the
//! region's quota fairly. A request is refused at once if it is not expected to get
//! its response before its deadline.
//!
//! State outlives a reload: [`Limits::reconfigure`] resizes quotas in place. Limits
//! are per process; a fleet of gateways does not share them.
//!
//! | room | job |
//! |---|---|
//! | `permit` | the right to make one call |
//! | `lane` | one family in one region: the lock, the wake-ups |
//! | `queue` | who waits, who goes next, who is refused; shares of the region's quota |
//! | `learning` | hidden quotas, learned from 429 responses |
//! | `quota` | one quota, kept strictly: its slots and its pace |
//! | `announce` | log lines about learned quotas |
//! | `family`, `policy`, `admission`, `feedback`, `snapshot` | the values that cross the door |
//!
//! Arrows point downwards: `permit → lane → queue → learning → quota → values`.

mod admission;
mod announce;
mod family;
mod feedback;
mod lane;
mod learning;
mod permit;
mod policy;
mod queue;
mod quota;
mod snapshot;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use admission::{Priority, Refusal, Scope};
pub use family::Family;
pub use feedback::Feedback;
pub use permit::Permit;
pub use policy::{FamilyLimits, LimitsConfig, QueueLimits, SkillLimits};
pub use quota::{Quota, QuotaError};
pub use snapshot::{LaneSnapshot, Learned, MAX_LEARNED_LISTED};

use crate::region::Region;
use crate::token::SkillId;
use lane::Lane;

/// The lanes of all regions. Dropping it ends the tasks that grant permits.
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
                let limits = config.family(family).clone();
                Arc::new(Lane::new(region, family, limits, config.queue))
            })
        });
        let tasks = lanes.iter().flatten().map(|lane| {
            let lane = Arc::clone(lane);
            tokio::spawn(async move { lane.run().await })
        });
        Self {
            tasks: tasks.collect(),
            lanes,
        }
    }

    /// Waits for the right to make one call. Cancelling gives up the place in the
    /// queue.
    ///
    /// # Errors
    /// The expected wait and the usual round trip do not fit the deadline, or the
    /// queue is full. Nearly all refusals come at once; one that comes late was
    /// overtaken by others.
    pub async fn admit(
        &self,
        region: Region,
        family: Family,
        skill: Option<&SkillId>,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Permit, Refusal> {
        let lane = self.lane(region, family);
        let admission = lane.admit(skill, priority, deadline).await?;
        Ok(Permit::new(Arc::clone(lane), admission))
    }

    /// Whether a request that came now could be served before `deadline`.
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

    /// Whether quotas are learned from 429 responses, which then pause their skill.
    #[must_use]
    pub fn learns(&self, region: Region, family: Family) -> bool {
        self.lane(region, family).is_adaptive()
    }

    /// Applies a new configuration in place.
    pub fn reconfigure(&self, config: &LimitsConfig) {
        for lanes in &self.lanes {
            for (family, lane) in Family::ALL.into_iter().zip(lanes) {
                lane.reconfigure(config.family(family).clone(), config.queue);
            }
        }
    }

    /// The state of one lane.
    #[must_use]
    pub fn snapshot(&self, region: Region, family: Family) -> LaneSnapshot {
        self.lane(region, family).snapshot()
    }

    /// What one lane has learned of the skills that were throttled last, up to
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

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}
