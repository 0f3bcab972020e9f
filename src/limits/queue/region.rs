//! A region's slots, shared by all tenants of a lane.

use std::time::Duration;

use tokio::time::Instant;

use super::key::TenantId;
use super::shares::{Rank, Shares, Usage};
use crate::limits::quota::{Gate, QueuePosition, Quota, Readiness};

/// The owner of a slot; `None` if it is unknown.
type SlotOwner = Option<TenantId>;

/// The gate of a region's quota, and each tenant's share of its slots. Without a
/// quota, no tenant is limited by others.
pub(super) struct RegionSlots {
    gate: Gate<SlotOwner>,
    shares: Shares,
}

impl RegionSlots {
    pub(super) fn new(quota: Option<Quota>, floors: usize) -> Self {
        let mut shares = Shares::default();
        shares.set_floors(floors);
        Self {
            gate: Gate::full(quota),
            shares,
        }
    }

    /// Applies a new quota and floors. Returns the owners of slots that are free now;
    /// the caller [releases](Self::release) them.
    pub(super) fn configure(
        &mut self,
        quota: Option<Quota>,
        floors: usize,
        now: Instant,
    ) -> Vec<SlotOwner> {
        self.shares.set_floors(floors);
        self.gate.configure(quota, now)
    }

    pub(super) fn quota(&self) -> Option<Quota> {
        self.gate.quota()
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    pub(super) fn used(&self) -> usize {
        self.gate.used()
    }

    /// Frees the slots whose cool-down has ended. Returns their owners; the caller
    /// [releases](Self::release) them.
    pub(super) fn release_cooled(&mut self, now: Instant) -> Vec<SlotOwner> {
        self.gate.release_cooled(now)
    }

    /// When the next request may go, whoever sends it.
    pub(super) fn readiness(&mut self, now: Instant) -> Readiness {
        self.gate.readiness(now)
    }

    /// When the oldest cool-down ends.
    pub(super) fn next_cooled(&self) -> Option<Instant> {
        self.gate.next_cooled()
    }

    /// Whether there is a slot for this tenant.
    pub(super) fn allows(&self, usage: &Usage) -> bool {
        let (Some(slots), Some(free)) = (self.slots(), self.gate.free()) else {
            return true;
        };
        self.shares.allows(usage, free, slots)
    }

    pub(super) fn rank(&self, usage: &Usage) -> Rank {
        self.slots()
            .map_or(Rank::WithinShare, |slots| self.shares.rank(usage, slots))
    }

    /// When a tenant's request with `ahead` others before it is expected to go.
    pub(super) fn expected_at(
        &self,
        usage: &Usage,
        ahead: usize,
        now: Instant,
        round_trip: Duration,
    ) -> Instant {
        let reserved = self.shares.reserved_from(usage);
        let position = QueuePosition { ahead, reserved };
        self.gate.expected_at(now, position, round_trip)
    }

    /// Takes a slot for a tenant. The caller has checked that it may.
    pub(super) fn take(&mut self, usage: &mut Usage, now: Instant) {
        let quota = self.gate.quota();
        let window = quota.map_or(Duration::ZERO, |quota| quota.per);
        self.gate.take();
        self.shares.take(usage, now, window);
    }

    /// Frees the slot of a request that was not sent.
    pub(super) fn refund(&mut self, usage: &mut Usage) {
        self.gate.refund();
        self.shares.release(usage);
    }

    /// Starts the cool-down of a tenant's slot. Its share is released when that ends.
    pub(super) fn start_cooldown(&mut self, tenant: TenantId, usage: &mut Usage, now: Instant) {
        if !self.gate.start_cooldown(Some(tenant), now) {
            self.shares.release(usage);
        }
    }

    /// Counts a slot of a tenant as free again.
    pub(super) fn release(&mut self, usage: &mut Usage) {
        self.shares.release(usage);
    }

    /// Applies a new weight and floor to a tenant.
    pub(super) fn adjust(&mut self, usage: &mut Usage, weight: u32, floor: u32) {
        self.shares.adjust(usage, weight, floor);
    }

    /// Stops counting a tenant.
    pub(super) fn remove(&mut self, mut usage: Usage) {
        self.shares.remove(&mut usage);
    }

    /// Whether tenants are to be checked by [`RegionSlots::expire`]; true once in a
    /// while.
    pub(super) fn is_expiry_due(&mut self, now: Instant) -> bool {
        let quota = self.gate.quota();
        quota.is_some_and(|quota| self.shares.is_expiry_due(now, quota.per))
    }

    /// Stops counting a tenant that is not active any more.
    pub(super) fn expire(&mut self, usage: &mut Usage, now: Instant) {
        self.shares.expire(usage, now);
    }

    /// Whether a tenant holds less than its share.
    pub(super) fn is_within_share(&self, usage: &Usage) -> bool {
        let slots = self.slots();
        slots.is_none_or(|slots| !self.shares.is_over(usage, slots))
    }

    /// A tenant within its share has to wait behind one over its share.
    pub(super) fn note_crowding(&mut self) {
        if let Some(slots) = self.slots() {
            self.shares.note_crowding(slots);
        }
    }

    /// A tenant within its share does not have to wait.
    pub(super) fn note_ease(&mut self) {
        if let Some(slots) = self.slots() {
            self.shares.note_ease(slots);
        }
    }

    fn slots(&self) -> Option<usize> {
        self.gate.quota().map(|quota| quota.slots())
    }
}
