//! One tenant of a lane: a skill, or all requests without a skill.

use std::time::Duration;

use tokio::time::Instant;

use super::key::TenantKey;
use super::schedule::Listing;
use super::shares::Usage;
use super::smoothed::SmoothedDuration;
use super::waiting::WaitingLine;
use crate::limits::admission::Priority;
use crate::limits::learning::Learner;
use crate::limits::quota::{Gate, QueuePosition, Readiness};

pub(super) struct Tenant {
    pub(super) key: TenantKey,
    /// The gate of its configured quota.
    pub(super) gate: Gate,
    /// What is learned of its hidden quota.
    pub(super) learner: Learner,
    /// Its part of the region's slots.
    pub(super) usage: Usage,
    pub(super) waiting: WaitingLine,
    /// The start tag of its next request.
    pub(super) start_tag: u64,
    pub(super) listing: Listing,
    pub(super) last_admitted: Option<Instant>,
    /// By how much requests go later than expected, since round trips vary and other
    /// tenants come in between.
    pub(super) lateness: SmoothedDuration,
}

impl Tenant {
    pub(super) fn new(key: TenantKey, gate: Gate, usage: Usage) -> Self {
        Self {
            key,
            gate,
            learner: Learner::default(),
            usage,
            waiting: WaitingLine::default(),
            start_tag: 0,
            listing: Listing::Unlisted,
            last_admitted: None,
            lateness: SmoothedDuration::default(),
        }
    }

    /// When its own quotas admit the next request.
    pub(super) fn readiness(&mut self, now: Instant) -> Readiness {
        self.gate.release_cooled(now);
        let learned = self.learner.readiness(now);
        self.gate.readiness(now).and(learned)
    }

    /// When its own quotas are expected to admit the request with `ahead` others
    /// before it.
    pub(super) fn expected_at(&self, now: Instant, ahead: usize, round_trip: Duration) -> Instant {
        let position = QueuePosition { ahead, reserved: 0 };
        let configured = self.gate.expected_at(now, position, round_trip);
        configured.max(self.learner.expected_at(now, ahead, round_trip))
    }

    /// How much of the time `left` a request should keep for waiting out a 429. Zero
    /// if the pause would not fit anyway.
    pub(super) fn retry_reserve(&self, priority: Priority, left: Duration) -> Duration {
        let reserve = self.learner.retry_reserve();
        match priority {
            Priority::New if reserve < left => reserve.min(left / 2),
            Priority::New | Priority::Retry => Duration::ZERO,
        }
    }

    /// Whether nothing is lost by forgetting it.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.is_at_rest(now) && self.learner.is_idle(now)
    }

    /// Whether nothing but a learned quota is lost by forgetting it.
    pub(super) fn is_at_rest(&mut self, now: Instant) -> bool {
        self.gate.release_cooled(now);
        self.learner.is_at_rest(now)
            && self.waiting.is_empty()
            && self.usage.used() == 0
            && self.gate.is_idle()
    }
}
