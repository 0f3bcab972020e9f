//! The rate in force, and the search for the highest rate without a 429.
//!
//! The course is that of CUBIC (RFC 9438: concave, a plateau, convex):
//!
//! 1. A 429 cuts the rate below what upstream has just accepted.
//! 2. The rate climbs back to the **safe** rate, in steps that halve the distance.
//! 3. It stays there for a while, then **probes** a little more: first soon, later
//!    ever more seldom while the same ceiling is met again. Without a 429, each probe
//!    is twice as bold as the one before it.
//! 4. A probe that meets a 429 returns to the rate that was proven before, without
//!    the cut that CUBIC makes.
//!
//! Only responses at a saturated rate count; a rate that is not used proves nothing.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::quota::Quota;

/// The search for one skill's rate. All rates are in requests per second.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLevel {
    /// The rate in force.
    rate: f64,
    /// The highest rate believed to be allowed.
    safe: f64,
    /// The safe rate at the start of the current run of probes.
    proven: f64,
    /// The rate that met the last 429.
    ceiling: f64,
    /// How often the same ceiling was met in succession.
    confirmations: u32,
    /// When `rate` came into force.
    since: Instant,
    /// Responses to requests sent at this rate while it was saturated.
    saturated: u32,
    /// By which fraction the current probe exceeds `safe`; 0 outside probes.
    probe_step: f64,
    /// By which fraction the next run of probes begins.
    first_step: f64,
    /// When the next probe may begin.
    probe_at: Instant,
    /// When `safe` was last raised.
    raised_at: Instant,
    last_429: Instant,
}

impl RateLevel {
    /// The level after the first 429, given the rate that upstream accepted.
    pub(super) fn after_first_429(accepted: f64, now: Instant) -> Self {
        // Other clients may have used most of the quota, for instance this gateway
        // before a restart. A low rate is then no measure, so it may double at once.
        let is_measured = accepted >= MIN_MEASURABLE;
        let ceiling = accepted.max(MIN_MEASURABLE);
        let safe = SAFE_FRACTION * ceiling;
        Self {
            rate: CUT * safe,
            safe,
            proven: MIN_RATE,
            ceiling,
            confirmations: 0,
            since: now,
            saturated: 0,
            probe_step: 0.0,
            first_step: if is_measured { PROBE_STEP } else { 1.0 },
            probe_at: if is_measured { now + MIN_HOLD } else { now },
            raised_at: now,
            last_429: now,
        }
    }

    /// Notes a 429 to a request sent at an earlier rate. It changes nothing else.
    pub(super) fn throttled_late(&mut self, now: Instant) {
        self.last_429 = now;
    }

    /// Lowers the rate after a 429 to a request sent at this rate, given the rate
    /// that upstream accepts at present. Returns whether this confirms the ceiling
    /// for good.
    pub(super) fn throttled(&mut self, accepted: f64, now: Instant) -> bool {
        let was_probing = self.is_probing();
        self.last_429 = now;
        self.restart(now);
        // The accepted rate tells whether the quota is about as expected or far
        // lower. If nothing at all was accepted, it is far lower.
        let taken = if accepted > 0.0 {
            self.rate.min(accepted.max(1.0))
        } else {
            self.rate / 2.0
        };
        let is_near = taken >= NEAR * self.safe;
        let is_same_ceiling = is_near && taken <= self.ceiling / NEAR;
        self.confirmations = if is_same_ceiling {
            self.confirmations + 1
        } else {
            0
        };
        self.ceiling = taken;
        self.first_step = PROBE_STEP;
        self.probe_step = 0.0;
        self.probe_at = now + self.hold();
        if was_probing && is_near {
            self.fail_probe(taken);
        } else if is_near && now - self.raised_at > UNPROVEN_FOR {
            self.back_off(self.rate, CUT);
        } else if is_near {
            // The probes went too far; a full token bucket hid it.
            self.back_off(taken, CUT);
        } else {
            self.back_off(taken, DEEP_CUT);
        }
        self.safe = self.safe.max(MIN_RATE);
        self.rate = self.rate.clamp(MIN_RATE, self.safe);
        self.confirmations == CONFIRMED
    }

    /// Returns to a rate that held before the probes. The rates they reached may be
    /// due to luck or a full token bucket: a large gain is kept, and half of a small
    /// one.
    fn fail_probe(&mut self, taken: f64) {
        let reached = (SAFE_FRACTION * taken).min(self.safe).max(self.proven);
        self.safe = if reached > LARGE_GAIN * self.proven {
            reached
        } else {
            (reached + self.proven) / 2.0
        };
        self.rate = self.safe;
    }

    /// Believes in a ceiling, and stays below it to let upstream's window drain.
    fn back_off(&mut self, ceiling: f64, cut: f64) {
        self.safe = SAFE_FRACTION * ceiling;
        self.rate = cut * self.safe;
    }

    /// Notes a response other than 429 to a request that was sent at `sent_at` while
    /// the rate was saturated. `max` bounds the rate. Returns whether the rate
    /// changed.
    pub(super) fn accepted(&mut self, sent_at: Instant, max: f64, now: Instant) -> bool {
        if sent_at < self.since {
            return false;
        }
        self.saturated += 1;
        // A rate has to hold for one second of full use; a probe for longer.
        let seconds = if self.is_probing() {
            PROBE_SECONDS
        } else {
            1.0
        };
        if f64::from(self.saturated) < self.rate.max(1.0) * seconds {
            return false;
        }
        if self.rate < self.safe {
            let half = (self.safe - self.rate) / 2.0;
            self.rate = (self.rate + half.max(PROBE_STEP * self.safe)).min(self.safe);
        } else if now >= self.probe_at {
            self.probe(now);
        } else {
            return false;
        }
        self.rate = self.rate.min(max);
        self.restart(now);
        true
    }

    /// Accepts the rate in force as safe, and tries a higher one.
    fn probe(&mut self, now: Instant) {
        self.probe_step = if self.is_probing() {
            (self.probe_step * 2.0).min(1.0)
        } else {
            self.proven = self.rate;
            self.first_step
        };
        (self.safe, self.raised_at) = (self.rate, now);
        self.rate *= 1.0 + self.probe_step;
    }

    /// The rate in force, as a quota to keep.
    pub(super) fn quota(&self) -> Quota {
        let quota = quota_of(self.rate);
        // A probe sends one request at a time: the fewer are in flight when it fails,
        // the fewer are throttled. A probe that the configured quota caps at the safe
        // rate does not count.
        if self.is_probing() && self.rate > self.safe {
            let burst = Some(NonZeroU32::MIN);
            return Quota { burst, ..quota };
        }
        quota
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    pub(super) fn safe(&self) -> f64 {
        self.safe
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn last_429(&self) -> Instant {
        self.last_429
    }

    /// 0 for a first guess; approaches 1 each time the same ceiling is met again.
    pub(super) fn confidence(&self) -> f64 {
        1.0 - 0.5f64.powi(i32::try_from(self.confirmations).unwrap_or(i32::MAX))
    }

    /// Whether the last 429 is so old that the level means nothing any more.
    pub(super) fn is_outdated(&self, now: Instant) -> bool {
        now - self.last_429 > FORGET_AFTER
    }

    fn is_probing(&self) -> bool {
        self.probe_step > 0.0
    }

    /// Starts to count the responses to a new rate.
    fn restart(&mut self, now: Instant) {
        (self.since, self.saturated) = (now, 0);
    }

    /// How long to stay at the safe rate before the next probe.
    fn hold(&self) -> Duration {
        let doubled = 2u32.saturating_pow(self.confirmations);
        MIN_HOLD.saturating_mul(doubled).min(MAX_HOLD)
    }
}

/// A rate as slots: the requests of one second, rounded up, in the time that they
/// take at this rate. A quarter of them may go at once, so that the few calls of one
/// voice turn go together.
pub(super) fn quota_of(rate: f64) -> Quota {
    let slots = rate.ceil().clamp(1.0, 100_000.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let slots = NonZeroU32::new(slots as u32).unwrap_or(NonZeroU32::MIN);
    Quota {
        requests: slots,
        per: Duration::from_secs_f64(f64::from(slots.get()) / rate),
        burst: NonZeroU32::new(slots.get() / 4).or(Some(NonZeroU32::MIN)),
    }
}

/// The safe fraction of a ceiling. Upstream's clock is not ours, and jitter crowds
/// requests together.
pub(super) const SAFE_FRACTION: f64 = 0.95;

/// The cut below the safe rate after a 429, to let upstream's window drain. CUBIC's
/// factor is 0.7 of the rate in force; this one applies to what upstream has just
/// accepted.
pub(super) const CUT: f64 = 0.8;

/// The cut if upstream accepts far less than was believed safe.
const DEEP_CUT: f64 = 0.5;

/// Ceilings within this ratio are the same ceiling.
const NEAR: f64 = 0.75;

/// By which fraction the first probe exceeds the safe rate.
const PROBE_STEP: f64 = 0.05;

/// How many seconds of full use a probe lasts.
const PROBE_SECONDS: f64 = 2.0;

/// The gain of a run of probes that is believed at once.
const LARGE_GAIN: f64 = 1.5;

/// A safe rate younger than this may be due to luck.
const UNPROVEN_FOR: Duration = Duration::from_secs(30);

/// An accepted rate below this, before the first 429, is no measure.
const MIN_MEASURABLE: f64 = 5.0;

/// How long a new ceiling is respected; doubled with each confirmation.
const MIN_HOLD: Duration = Duration::from_secs(5);

/// The longest time between two probes: a quota that rises is to be found within two
/// minutes.
const MAX_HOLD: Duration = Duration::from_secs(110);

/// The confirmations that make a rate worth a log line.
const CONFIRMED: u32 = 3;

/// The lowest rate: one request per minute.
const MIN_RATE: f64 = 1.0 / 60.0;

/// How long a level is valid without a new 429.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_slots_of_about_a_second() {
        let slots = |rate| {
            let quota = quota_of(rate);
            let burst = quota.burst.map(NonZeroU32::get);
            (quota.requests.get(), quota.per.as_millis(), burst)
        };
        assert_eq!(slots(20.0), (20, 1000, Some(5)));
        assert_eq!(slots(4.8), (5, 1041, Some(1)));
        assert_eq!(slots(0.5), (1, 2000, Some(1)));
    }
}
