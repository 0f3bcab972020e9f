//! When a request is expected to go, so that one that cannot be served in time is
//! refused at once.
//!
//! The forecast assumes that waiting requests go in the order of the schedule, that
//! responses take their mean time, and that nobody else comes. What it misses is
//! measured as each tenant's lateness.

use std::time::Duration;

use tokio::time::Instant;

use super::key::TenantId;
use super::region::RegionSlots;
use super::schedule::{FairSchedule, stride};
use super::tenants::Tenants;
use crate::limits::admission::{Priority, Refusal, Scope};
use crate::limits::quota::Quota;

/// A view of the queue, to look ahead from.
pub(super) struct Forecast<'a> {
    pub(super) tenants: &'a Tenants,
    pub(super) schedule: &'a FairSchedule,
    pub(super) region: &'a RegionSlots,
    /// The mean time that a response takes.
    pub(super) round_trip: Duration,
}

/// When a request is expected to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedTurn {
    pub(super) at: Instant,
    /// What it waits for longest.
    pub(super) scope: Scope,
}

impl ExpectedTurn {
    pub(super) fn refusal(self, now: Instant) -> Refusal {
        Refusal {
            wait: self.at - now,
            scope: self.scope,
        }
    }
}

impl Forecast<'_> {
    /// When a request of this tenant that came now would go. Looks no further ahead
    /// than `until`.
    pub(super) fn expected_turn(
        &self,
        tenant: TenantId,
        priority: Priority,
        now: Instant,
        until: Instant,
    ) -> ExpectedTurn {
        let own = &self.tenants[tenant];
        let ahead = own.waiting.ahead(priority);
        let skill = ExpectedTurn {
            at: own.expected_at(now, ahead, self.round_trip),
            scope: Scope::Skill,
        };
        let Some(quota) = self.region.quota() else {
            return skill;
        };
        let most = most_admitted(&quota, until - now);
        let ahead = ahead + self.others_ahead(tenant, ahead, most);
        let region = ExpectedTurn {
            at: self
                .region
                .expected_at(&own.usage, ahead, now, self.round_trip),
            scope: Scope::Region,
        };
        if region.at > skill.at { region } else { skill }
    }

    /// The number of other tenants' requests that go before one of this tenant with
    /// `ahead` of its own before it. Stops counting at `most`.
    fn others_ahead(&self, tenant: TenantId, ahead: usize, most: usize) -> usize {
        let own = &self.tenants[tenant];
        let steps = stride(own.usage.weight()).saturating_mul(ahead as u64);
        let tag = self.schedule.effective_tag(own.start_tag);
        let tag = tag.saturating_add(steps);
        let mut count = 0;
        for other in self.schedule.listed().filter(|other| *other != tenant) {
            let other = &self.tenants[other];
            if let Some(earlier) = tag.checked_sub(other.start_tag) {
                let turns = usize::try_from(earlier / stride(other.usage.weight()));
                let turns = turns.unwrap_or(usize::MAX).saturating_add(1);
                count += turns.min(other.waiting.len());
            }
            if count >= most {
                break;
            }
        }
        count
    }
}

/// The most requests that a quota can admit within a time.
fn most_admitted(quota: &Quota, time: Duration) -> usize {
    let windows = time.as_nanos() / quota.per.as_nanos().max(1) + 2;
    let windows = usize::try_from(windows).unwrap_or(usize::MAX);
    windows.saturating_mul(quota.slots())
}
