//! Learns the quotas that upstream enforces and does not publish.
//!
//! A lane keeps one [`Learner`] for each skill. Nothing is limited until the first
//! 429. From then on the learner caps the skill's rate, at first well below what
//! upstream had accepted, and approaches the hidden quota from below. After each 429
//! it also pauses the skill. A learner assumes nothing about the shape of the hidden
//! window: it keeps its rate with strict slots of about one second and an even pace,
//! which suits fixed windows, sliding windows and token buckets.
//!
//! # Interface
//!
//! The queue knows a learner by this interface only. All of it is pure: time is
//! passed in.
//!
//! | the learner is told | when |
//! |---|---|
//! | [`Learner::admitted`] | an attempt gets its permit |
//! | [`Learner::withdrawn`] | that attempt ends without having been sent |
//! | [`Learner::feedback`] | upstream responds: the attempt, 429 or not, and the time |
//! | [`Learner::ended`] | an attempt that was sent ends, with or without feedback |
//! | [`Learner::disable`] | configuration switches learning off |
//!
//! | the learner is asked | answer |
//! |---|---|
//! | [`Learner::readiness`] | whether the next attempt may go now, or when |
//! | [`Learner::expected_at`] | when the attempt behind n others may go |
//! | [`Learner::is_saturated`] | whether feedback on the attempt just admitted tests the rate |
//! | [`Learner::retry_reserve`] | how much time a retry after a 429 would need |
//! | [`Learner::is_idle`], [`Learner::is_at_rest`] | what would be lost by dropping the learner |
//! | [`Learner::estimate`], [`Learner::paused_until`] | what to show to operators |
//!
//! `admitted` is followed by exactly one `withdrawn` or `ended`; `feedback` comes at
//! most once, before `ended`.
//!
//! | file | noun |
//! |---|---|
//! | `estimator` | one skill's estimate: no cap, a cap, or a cap and a pause |
//! | `level` | the rate in force and the search for a better one |
//! | `pause` | the back-off after a 429 |
//! | `recent` | the rate that upstream accepts at present |
//! | `event` | what is worth a log line |

mod estimator;
mod event;
mod level;
mod pause;
mod recent;

use std::time::Duration;

use tokio::time::Instant;

pub(super) use estimator::{RateEstimate, SentAttempt};
pub(super) use event::LearningEvent;

use super::feedback::Feedback;
use super::quota::{Gate, QueuePosition, Readiness};
use estimator::{RateEstimator, ThrottledAttempt};

/// What is learned of one skill's quota, and the gate that keeps it.
#[derive(Default)]
pub(super) struct Learner {
    estimator: RateEstimator,
    gate: Gate,
}

impl Learner {
    pub(super) fn admitted(&mut self) {
        self.gate.take();
    }

    pub(super) fn withdrawn(&mut self) {
        self.gate.refund();
    }

    pub(super) fn ended(&mut self, now: Instant) {
        self.gate.start_cooldown((), now);
    }

    /// Learns from the response to an attempt that is still in flight.
    /// `configured_rate` is the skill's configured rate, above which nothing is
    /// probed. Returns what is worth a log line.
    pub(super) fn feedback(
        &mut self,
        attempt: SentAttempt,
        feedback: Feedback,
        configured_rate: Option<f64>,
        now: Instant,
    ) -> Option<LearningEvent> {
        match feedback {
            Feedback::Throttled { retry_after } => {
                let throttled = ThrottledAttempt {
                    sent_at: attempt.sent_at,
                    others_in_flight: self.gate.in_flight() - 1,
                    retry_after,
                };
                let event = self.estimator.throttled(throttled, now);
                self.gate.follow(self.estimator.quota(), now);
                event
            }
            Feedback::Accepted => {
                if self.estimator.accepted(attempt, configured_rate, now) {
                    self.gate.follow(self.estimator.quota(), now);
                }
                None
            }
        }
    }

    /// Lifts the cap. A pause stays, since upstream asked for it.
    pub(super) fn disable(&mut self, now: Instant) {
        self.estimator.forget();
        self.gate.follow(None, now);
    }

    /// Whether the next attempt may go now, or when.
    pub(super) fn readiness(&mut self, now: Instant) -> Readiness {
        self.gate.release_cooled(now);
        let paused = self.paused_until(now);
        let pause = paused.map_or(Readiness::Now, Readiness::At);
        self.gate.readiness(now).and(pause)
    }

    /// When the attempt with `ahead` others before it is expected to go.
    pub(super) fn expected_at(&self, now: Instant, ahead: usize, round_trip: Duration) -> Instant {
        let position = QueuePosition { ahead, reserved: 0 };
        let slot = self.gate.expected_at(now, position, round_trip);
        slot.max(self.paused_until(now).unwrap_or(now))
    }

    /// Whether at least 90 % of the learned rate is in use. Only then do responses
    /// say whether the rate is too low.
    pub(super) fn is_saturated(&self) -> bool {
        let quota = self.gate.quota();
        quota.is_some_and(|quota| self.gate.used() * 10 >= quota.slots() * 9)
    }

    /// The time that a retry needs beyond its round trip if the next response is a
    /// 429: a pause like the last one, and a slot.
    pub(super) fn retry_reserve(&self) -> Duration {
        self.estimator.retry_reserve()
    }

    /// When the current pause ends; `None` without a pause.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.estimator.paused_until(now)
    }

    /// The estimate, unless it is outdated.
    pub(super) fn estimate(&self, now: Instant) -> Option<RateEstimate> {
        self.estimator.estimate(now)
    }

    /// Whether nothing is lost by dropping this learner.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.is_at_rest(now) && self.estimator.estimate(now).is_none()
    }

    /// Whether nothing but the estimate is lost by dropping this learner.
    pub(super) fn is_at_rest(&mut self, now: Instant) -> bool {
        self.gate.release_cooled(now);
        self.gate.is_idle() && self.paused_until(now).is_none()
    }
}
