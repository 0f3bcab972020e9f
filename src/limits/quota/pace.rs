//! The burst limit of one quota: a burst at once, then an even pace (GCRA).
//!
//! Requests conform to GCRA by governor's decision; nothing here sleeps. Governor's
//! `check` takes a cell when it answers yes. A cell that was taken is therefore kept
//! **in hand** until a request uses it, so that a request can ask several limits and
//! pass all of them or none.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as CellRate, RateLimiter};
use tokio::time::Instant;

use super::definition::Quota;
use super::readiness::Readiness;

/// Tokio's time, so that a paused clock stops governor too.
#[derive(Clone, Copy, Debug)]
struct TokioClock {
    origin: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, StateInformationMiddleware>;

/// The pace of one quota.
pub(super) struct Pace {
    limiter: Limiter,
    /// The time between two cells.
    interval: Duration,
    burst: u32,
    /// A cell was taken from governor and is not used yet.
    in_hand: bool,
    /// The number of cells left at `counted_at`, when the last one was taken.
    left: u32,
    counted_at: Instant,
}

impl Pace {
    /// The pace of `quota`, if it has a burst, with the whole burst available.
    pub(super) fn full(quota: &Quota, now: Instant) -> Option<Self> {
        let burst = quota.burst?;
        let interval = quota.per / quota.requests.get();
        let rate = CellRate::with_period(interval)?.allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(rate, TokioClock { origin: now })
            .with_middleware::<StateInformationMiddleware>();
        Some(Self {
            limiter,
            interval,
            burst: burst.get(),
            in_hand: false,
            left: burst.get(),
            counted_at: now,
        })
    }

    /// The pace of `quota`, if it has a burst, with the burst used up at `since`,
    /// when nothing is known of earlier requests. Cells due since then are available.
    pub(super) fn exhausted(quota: &Quota, since: Instant) -> Option<Self> {
        let now = Instant::now();
        let mut pace = Self::full(quota, now)?;
        let due = (now - since).as_nanos() / pace.interval.as_nanos();
        let due = u32::try_from(due).unwrap_or(u32::MAX).min(pace.burst);
        if let Some(used) = NonZeroU32::new(pace.burst - due) {
            // A full limiter has room for one burst, so this always conforms.
            pace.limiter.check_n(used).ok()?.ok()?;
        }
        (pace.left, pace.counted_at) = (due, now);
        Some(pace)
    }

    /// Whether a cell is in hand; takes one from governor if not.
    pub(super) fn readiness(&mut self, now: Instant) -> Readiness {
        if self.in_hand {
            return Readiness::Now;
        }
        match self.limiter.check() {
            Ok(state) => {
                (self.left, self.counted_at) = (state.remaining_burst_capacity(), now);
                self.in_hand = true;
                Readiness::Now
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.limiter.clock().now());
                Readiness::At(now + wait)
            }
        }
    }

    /// Uses the cell in hand.
    pub(super) fn take(&mut self) {
        self.in_hand = false;
    }

    /// Takes back the cell of a request that was not sent. Only one is kept.
    pub(super) fn refund(&mut self) {
        self.in_hand = true;
    }

    /// When the request with `ahead` others before it is expected to get a cell.
    pub(super) fn expected_at(&self, now: Instant, ahead: usize) -> Instant {
        let needed = u32::try_from(ahead + 1).unwrap_or(u32::MAX);
        let available = u32::from(self.in_hand) + self.left.min(self.burst);
        let missing = needed.saturating_sub(available);
        now.max(self.counted_at + self.interval.saturating_mul(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pace(burst: u32) -> Pace {
        let mut quota: Quota = "10/1s".parse().unwrap();
        quota.burst = Some(burst.try_into().unwrap());
        Pace::exhausted(&quota, Instant::now()).unwrap()
    }

    /// Takes a cell; otherwise returns the wait.
    fn take(pace: &mut Pace) -> Result<(), Duration> {
        let now = Instant::now();
        match pace.readiness(now) {
            Readiness::Now => {
                pace.take();
                Ok(())
            }
            Readiness::At(at) => Err(at - now),
            Readiness::AfterResponse => panic!("a pace does not wait for responses"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_follow_evenly_after_a_burst() {
        let mut pace = pace(3);
        assert_eq!(take(&mut pace), Err(100 * MS), "it starts exhausted");
        tokio::time::advance(300 * MS).await;
        for _ in 0..3 {
            assert_eq!(take(&mut pace), Ok(()));
        }
        assert_eq!(take(&mut pace), Err(100 * MS));
        let now = Instant::now();
        let expected = [0, 1, 4].map(|ahead| pace.expected_at(now, ahead) - now);
        assert_eq!(expected, [100 * MS, 200 * MS, 500 * MS]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cell_in_hand_is_kept_and_used_once() {
        let mut pace = pace(1);
        tokio::time::advance(100 * MS).await;
        for _ in 0..3 {
            assert_eq!(pace.readiness(Instant::now()), Readiness::Now);
        }
        pace.take();
        assert_eq!(take(&mut pace), Err(100 * MS));
        pace.refund();
        assert_eq!(take(&mut pace), Ok(()));
        assert_eq!(take(&mut pace), Err(100 * MS));
    }
}
