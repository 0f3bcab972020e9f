//! When a request may be expected to go: whoever cannot be served in time is told
//! so at once.

use std::time::Duration;

use tokio::time::Instant;

use super::{Queue, slots, stride};
use crate::limits::quota::Quota;
use crate::limits::{Priority, Refusal, Scope};

impl Queue {
    /// Refuses a request of a tenant whose turn came too late. Between its deadline
    /// and this, the request may have been taken out and its tenant forgotten.
    pub(in crate::limits) fn refusal(
        &self,
        tenant: usize,
        priority: Priority,
        now: Instant,
    ) -> Refusal {
        if !self.tenants.contains(tenant) {
            return Refusal {
                wait: Duration::ZERO,
                scope: Scope::Skill,
            };
        }
        let (at, scope) = self.expected(tenant, priority, now, now + FURTHEST);
        Refusal {
            wait: at - now,
            scope,
        }
    }

    /// When the turn of one more request is expected, if its answer would then be
    /// there in time.
    pub(super) fn expect(
        &mut self,
        tenant: usize,
        priority: Priority,
        now: Instant,
        deadline: Instant,
    ) -> Result<Instant, Refusal> {
        let (at, scope) = self.expected(tenant, priority, now, deadline);
        let own = &mut self.tenants[tenant];
        // Where 429s are to be expected, there is to be time left to wait one out;
        // for a pause that does not fit anyway, nothing is gained by keeping time.
        let (left, reserve) = (deadline - now, own.belief.reserve());
        let reserve = match priority {
            Priority::New if reserve < left => reserve.min(left / 2),
            Priority::New | Priority::Retry => Duration::ZERO,
        };
        let answered_at = at + reserve + self.round_trip.usual();
        let lateness = &mut own.lateness;
        if answered_at + lateness.at_most().max(LEAST_SLACK) <= deadline {
            return Ok(at);
        }
        if answered_at + LEAST_SLACK <= deadline {
            // Only those who wait show how late turns are; where nobody may wait
            // for fear of it, that has to be found out anew.
            lateness.note(Duration::ZERO);
        }
        Err(Refusal {
            wait: at - now,
            scope,
        })
    }

    /// When one more request is expected to go, and what it waits for longest.
    /// Looks no further than `until`.
    fn expected(
        &self,
        tenant: usize,
        priority: Priority,
        now: Instant,
        until: Instant,
    ) -> (Instant, Scope) {
        let (own, round_trip) = (&self.tenants[tenant], self.round_trip.mean());
        let ahead = own.waiting.ahead(priority);
        let configured = own.configured.expected(now, ahead, 0, round_trip);
        let learned = own.learned.expected(now, ahead, 0, round_trip);
        let paused = own.belief.paused_until(now).unwrap_or(now);
        let skill = configured.max(learned).max(paused);
        let Some(quota) = self.region.quota() else {
            return (skill, Scope::Skill);
        };
        let most = most_until(&quota, until - now);
        let ahead = ahead + self.others_ahead(tenant, ahead, most);
        let kept = self.shares.kept_from(&own.stake);
        let region = self.region.expected(now, ahead, kept, round_trip);
        match region > skill {
            true => (region, Scope::Region),
            false => (skill, Scope::Skill),
        }
    }

    /// How many requests of others go before one of this tenant that has `ahead`
    /// of its own before it. Stops counting at `most`.
    fn others_ahead(&self, tenant: usize, ahead: usize, most: usize) -> usize {
        let own = &self.tenants[tenant];
        let steps = stride(own.stake.weight).saturating_mul(ahead as u64);
        let due = own.tag.max(self.virtual_time).saturating_add(steps);
        let ready = self.ready.iter().map(|(_, _, other)| *other);
        let blocked = self.blocked.iter().map(|(_, other)| *other);
        let mut count = 0;
        for other in ready.chain(blocked).filter(|other| *other != tenant) {
            let other = &self.tenants[other];
            if let Some(earlier) = due.checked_sub(other.tag) {
                let turns = usize::try_from(earlier / stride(other.stake.weight));
                count += turns
                    .unwrap_or(usize::MAX)
                    .saturating_add(1)
                    .min(other.waiting.len());
            }
            if count >= most {
                break;
            }
        }
        count
    }
}

/// How many requests a quota lets pass within a time, at the most.
fn most_until(quota: &Quota, time: Duration) -> usize {
    let windows = time.as_nanos() / quota.per.as_nanos().max(1) + 2;
    usize::try_from(windows)
        .unwrap_or(usize::MAX)
        .saturating_mul(slots(quota))
}

/// How much later than expected a turn may come on a busy machine.
const LEAST_SLACK: Duration = Duration::from_millis(20);

/// How far ahead a refusal looks.
const FURTHEST: Duration = Duration::from_secs(8);
