//! The order in which tenants get their turns: start-time fair queueing (Goyal, Vin,
//! Cheng, "Start-Time Fair Queueing", SIGCOMM 1996).
//!
//! The next request of a tenant has a start tag in virtual time. The tenant with the
//! least tag goes first; its next tag is later by 1 / weight. Virtual time is the tag
//! of the request that went last. A tenant that was idle, or blocked by its own
//! quota, continues at virtual time, so it cannot save up turns.
//!
//! Ranks come before tags: see [`Rank`].

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::key::TenantId;
use super::shares::Rank;

/// All tenants with waiting requests, by when they may go.
#[derive(Debug, Default)]
pub(super) struct FairSchedule {
    /// Tenants that wait for the region only, in the order in which they go.
    ready: BTreeSet<(Rank, u64, TenantId)>,
    /// Tenants whose own quota admits them at a known time.
    blocked: BTreeSet<(Instant, TenantId)>,
    virtual_time: u64,
}

/// Where a tenant is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Listing {
    /// Nowhere: nothing waits, or all wait for a response at an unknown time.
    #[default]
    Unlisted,
    /// Among the tenants that wait for the region only.
    Ready { rank: Rank, start_tag: u64 },
    /// Among the tenants whose own quota admits them at this time.
    Blocked(Instant),
}

impl FairSchedule {
    pub(super) fn insert(&mut self, tenant: TenantId, listing: Listing) {
        match listing {
            Listing::Unlisted => {}
            Listing::Ready { rank, start_tag } => {
                self.ready.insert((rank, start_tag, tenant));
            }
            Listing::Blocked(at) => {
                self.blocked.insert((at, tenant));
            }
        }
    }

    pub(super) fn remove(&mut self, tenant: TenantId, listing: Listing) {
        match listing {
            Listing::Unlisted => {}
            Listing::Ready { rank, start_tag } => {
                self.ready.remove(&(rank, start_tag, tenant));
            }
            Listing::Blocked(at) => {
                self.blocked.remove(&(at, tenant));
            }
        }
    }

    /// The tag of a request of a tenant whose own tag is `start_tag`, if it went now.
    pub(super) fn effective_tag(&self, start_tag: u64) -> u64 {
        start_tag.max(self.virtual_time)
    }

    /// Lets a request go. Returns the tag of the tenant's next request.
    pub(super) fn advance(&mut self, start_tag: u64, weight: u32) -> u64 {
        self.virtual_time = self.effective_tag(start_tag);
        self.virtual_time + stride(weight)
    }

    /// The tenants that wait for the region only, in the order in which they go.
    pub(super) fn ready(&self) -> impl Iterator<Item = TenantId> {
        self.ready.iter().map(|(_, _, tenant)| *tenant)
    }

    pub(super) fn is_anyone_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The rank of the last tenant that waits for the region only.
    pub(super) fn last_rank(&self) -> Option<Rank> {
        self.ready.last().map(|(rank, _, _)| *rank)
    }

    /// All listed tenants, ready ones first.
    pub(super) fn listed(&self) -> impl Iterator<Item = TenantId> {
        let blocked = self.blocked.iter().map(|(_, tenant)| *tenant);
        self.ready().chain(blocked)
    }

    /// When the next blocked tenant is admitted by its own quota.
    pub(super) fn next_unblocked(&self) -> Option<Instant> {
        self.blocked.first().map(|(at, _)| *at)
    }

    /// A blocked tenant that is admitted by its own quota by `now`.
    pub(super) fn unblocked(&self, now: Instant) -> Option<TenantId> {
        let (at, tenant) = self.blocked.first()?;
        (*at <= now).then_some(*tenant)
    }
}

/// The virtual time that one request takes. The unit resolves the largest weight, and
/// 2⁶⁴ / 2²⁰ requests last for half a million years.
pub(super) fn stride(weight: u32) -> u64 {
    (1 << 20) / u64::from(weight.max(1))
}
