//! Who goes next: tenants, their order, and the region's slots, kept in step.
//!
//! After any change of a tenant's state, [`Dispatcher::reindex`] lists it anew, so the
//! schedule always agrees with the gates. Time is passed in; nothing here waits.

use std::time::Duration;

use tokio::time::Instant;

use super::forecast::{ExpectedTurn, Forecast};
use super::grant::Grant;
use super::key::TenantId;
use super::region::RegionSlots;
use super::schedule::{FairSchedule, Listing};
use super::shares::Rank;
use super::smoothed::SmoothedDuration;
use super::tenants::Tenants;
use crate::limits::admission::{Priority, Refusal, Scope};
use crate::limits::quota::Readiness;

pub(super) struct Dispatcher {
    pub(super) region: RegionSlots,
    pub(super) tenants: Tenants,
    schedule: FairSchedule,
    /// The time from sending a request to the head of its response.
    pub(super) round_trip: SmoothedDuration,
}

impl Dispatcher {
    pub(super) fn new(region: RegionSlots) -> Self {
        Self {
            region,
            tenants: Tenants::default(),
            schedule: FairSchedule::default(),
            round_trip: SmoothedDuration::default(),
        }
    }

    /// Brings the queue up to `now`: frees slots, unblocks tenants, expires activity.
    pub(super) fn advance(&mut self, now: Instant) {
        let freed = self.region.release_cooled(now);
        for owner in freed.iter().flatten() {
            self.region.release(&mut self.tenants[*owner].usage);
        }
        for owner in freed.into_iter().flatten() {
            self.reindex(owner, now);
        }
        while let Some(tenant) = self.schedule.unblocked(now) {
            self.reindex(tenant, now);
        }
        if self.region.is_expiry_due(now) {
            for tenant in self.tenants.iter_mut() {
                self.region.expire(&mut tenant.usage, now);
            }
        }
    }

    /// Whether a request that came now may go at once. The caller has let all others
    /// go that may.
    pub(super) fn may_go(&mut self, tenant: TenantId, priority: Priority, now: Instant) -> bool {
        let own = &mut self.tenants[tenant];
        own.waiting.ahead(priority) == 0
            && own.readiness(now) == Readiness::Now
            && self.region.readiness(now) == Readiness::Now
            && self.region.allows(&own.usage)
    }

    /// The tenant that goes next, if one may.
    pub(super) fn pick(&mut self, now: Instant) -> Option<TenantId> {
        if !self.schedule.is_anyone_ready() || self.region.readiness(now) != Readiness::Now {
            return None;
        }
        let mut candidates = self.schedule.ready().take(MAX_CANDIDATES);
        candidates.find(|tenant| self.region.allows(&self.tenants[*tenant].usage))
    }

    /// When to call [`Dispatcher::pick`] next. `None` if nobody waits, or if a response
    /// has to come first.
    pub(super) fn next_turn(&mut self, now: Instant) -> Option<Instant> {
        let unblocked = self.schedule.next_unblocked();
        let ready = if self.schedule.is_anyone_ready() {
            match self.region.readiness(now) {
                Readiness::At(at) => Some(at),
                // The free slots are reserved for tenants that are not waiting.
                Readiness::Now => self.region.next_cooled(),
                Readiness::AfterResponse => None,
            }
        } else {
            None
        };
        unblocked.into_iter().chain(ready).min()
    }

    /// Lets one request of a tenant go.
    pub(super) fn take(&mut self, tenant: TenantId, now: Instant) -> Grant {
        let own = &mut self.tenants[tenant];
        own.gate.take();
        own.learner.admitted();
        own.last_admitted = Some(now);
        self.region.take(&mut own.usage, now);
        own.start_tag = self.schedule.advance(own.start_tag, own.usage.weight());
        self.reindex(tenant, now);
        let saturated = self.tenants[tenant].learner.is_saturated();
        Grant { tenant, saturated }
    }

    /// Takes back what was granted to a request that was not sent.
    pub(super) fn refund(&mut self, tenant: TenantId, now: Instant) {
        let own = &mut self.tenants[tenant];
        own.gate.refund();
        own.learner.withdrawn();
        self.region.refund(&mut own.usage);
        self.reindex(tenant, now);
    }

    /// Starts the cool-down of what was granted to a request that was sent.
    pub(super) fn start_cooldown(&mut self, tenant: TenantId, now: Instant) {
        let own = &mut self.tenants[tenant];
        own.gate.start_cooldown((), now);
        own.learner.ended(now);
        self.region.start_cooldown(tenant, &mut own.usage, now);
        self.reindex(tenant, now);
    }

    /// Lists a tenant anew after a change of its state.
    pub(super) fn reindex(&mut self, tenant: TenantId, now: Instant) {
        let own = &mut self.tenants[tenant];
        self.schedule.remove(tenant, own.listing);
        own.listing = if own.waiting.is_empty() {
            Listing::Unlisted
        } else {
            match own.readiness(now) {
                Readiness::Now => {
                    own.start_tag = self.schedule.effective_tag(own.start_tag);
                    Listing::Ready {
                        rank: self.region.rank(&own.usage),
                        start_tag: own.start_tag,
                    }
                }
                Readiness::At(at) => Listing::Blocked(at),
                Readiness::AfterResponse => Listing::Unlisted,
            }
        };
        self.schedule.insert(tenant, own.listing);
    }

    pub(super) fn expected_turn(
        &self,
        tenant: TenantId,
        priority: Priority,
        now: Instant,
        until: Instant,
    ) -> ExpectedTurn {
        let forecast = Forecast {
            tenants: &self.tenants,
            schedule: &self.schedule,
            region: &self.region,
            round_trip: self.round_trip.mean(),
        };
        forecast.expected_turn(tenant, priority, now, until)
    }

    /// The refusal of a request whose turn comes too late. A request may outlive its
    /// tenant, if it was taken out at its deadline and the tenant then evicted.
    pub(super) fn refusal(&self, tenant: TenantId, priority: Priority, now: Instant) -> Refusal {
        if !self.tenants.contains(tenant) {
            return Refusal {
                wait: Duration::ZERO,
                scope: Scope::Skill,
            };
        }
        self.expected_turn(tenant, priority, now, now + REFUSAL_HORIZON)
            .refusal(now)
    }

    /// Notes that a request did not have to wait for the region.
    pub(super) fn note_ease(&mut self, tenant: TenantId) {
        if self.region.is_within_share(&self.tenants[tenant].usage) {
            self.region.note_ease();
        }
    }

    /// Notes whether a tenant within its share, with nothing waiting, has to wait for
    /// the region behind a tenant over its share.
    pub(super) fn note_crowding(&mut self, tenant: TenantId, now: Instant) {
        let own = &mut self.tenants[tenant];
        if own.waiting.is_empty()
            && self.schedule.last_rank() == Some(Rank::OverShare)
            && self.region.is_within_share(&own.usage)
            && own.readiness(now) == Readiness::Now
        {
            self.region.note_crowding();
        }
    }
}

/// How many tenants are asked whether the region has a slot for them. If the first 64
/// have to leave the free slots to others, so have those behind them: tenants that
/// need not come first.
const MAX_CANDIDATES: usize = 64;

/// How far ahead the forecast of a late refusal looks.
const REFUSAL_HORIZON: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_outlive_its_tenant() {
        let dispatcher = Dispatcher::new(RegionSlots::new(None, 0));
        let refusal = dispatcher.refusal(TenantId(0), Priority::New, Instant::now());
        assert_eq!(refusal.wait, Duration::ZERO);
    }
}
