//! The pace within one quota: no more than a burst at once, then evenly (GCRA).
//!
//! [`governor`] decides; nobody here sleeps. Its `check` takes a cell as it
//! answers, so a cell that was got is kept until the request goes for which it
//! was asked: several limits on one request are then had all or none.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as Cells, RateLimiter};
use tokio::time::Instant;

use super::quota::Quota;

/// Tokio's time, so that one paused clock moves everything.
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
    interval: Duration,
    burst: u32,
    /// A cell was got and not used yet.
    in_hand: bool,
    /// How many cells were left when one was last got, and when that was.
    left: (u32, Instant),
}

impl Pace {
    /// The pace of `quota`, if it has one, with a whole burst in hand.
    pub(super) fn fresh(quota: &Quota, now: Instant) -> Option<Self> {
        let burst = quota.burst?;
        let interval = quota.per / quota.requests.get();
        let cells = Cells::with_period(interval)?.allow_burst(burst);
        let limiter = RateLimiter::direct_with_clock(cells, TokioClock { origin: now })
            .with_middleware::<StateInformationMiddleware>();
        Some(Self {
            limiter,
            interval,
            burst: burst.get(),
            in_hand: false,
            left: (burst.get(), now),
        })
    }

    /// The pace of `quota`, if it has one, with its burst used up at `since`: what
    /// was sent before is not known. Cells that have come since then are there.
    pub(super) fn spent(quota: &Quota, since: Instant) -> Option<Self> {
        let now = Instant::now();
        let mut pace = Self::fresh(quota, now)?;
        let come = (now - since).as_nanos() / pace.interval.as_nanos();
        let come = u32::try_from(come).unwrap_or(u32::MAX).min(pace.burst);
        if let Some(gone) = NonZeroU32::new(pace.burst - come) {
            // A fresh limiter has room for one burst, so this is never refused.
            pace.limiter.check_n(gone).ok()?.ok()?;
        }
        pace.left = (come, now);
        Some(pace)
    }

    /// Gets a cell, or says when there will be one. One that was got and not
    /// [spent](Self::spend) is still there.
    ///
    /// # Errors
    /// When the next cell comes.
    pub(super) fn ready(&mut self, now: Instant) -> Result<(), Instant> {
        if self.in_hand {
            return Ok(());
        }
        match self.limiter.check() {
            Ok(state) => {
                self.left = (state.remaining_burst_capacity(), now);
                self.in_hand = true;
                Ok(())
            }
            Err(not_until) => Err(now + not_until.wait_time_from(self.limiter.clock().now())),
        }
    }

    /// Uses the cell that [`Pace::ready`] got.
    pub(super) fn spend(&mut self) {
        self.in_hand = false;
    }

    /// Takes a cell back whose request was not sent; no more than one is kept.
    pub(super) fn refund(&mut self) {
        self.in_hand = true;
    }

    /// When the request that has `ahead` others before it gets its cell.
    pub(super) fn expected(&self, now: Instant, ahead: usize) -> Instant {
        let (left, since) = self.left;
        let needed = u32::try_from(ahead + 1).unwrap_or(u32::MAX);
        let needed = needed.saturating_sub(u32::from(self.in_hand) + left.min(self.burst));
        now.max(since + self.interval.saturating_mul(needed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pace(burst: u32) -> Pace {
        let mut quota: Quota = "10/1s".parse().unwrap();
        quota.burst = Some(burst.try_into().unwrap());
        Pace::spent(&quota, Instant::now()).unwrap()
    }

    fn go(pace: &mut Pace) -> Result<(), Duration> {
        let now = Instant::now();
        pace.ready(now).map_err(|at| at - now)?;
        pace.spend();
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_burst_requests_go_one_by_one() {
        let mut pace = pace(3);
        assert_eq!(go(&mut pace), Err(100 * MS), "it starts with nothing");
        tokio::time::advance(300 * MS).await;
        for _ in 0..3 {
            assert_eq!(go(&mut pace), Ok(()));
        }
        assert_eq!(go(&mut pace), Err(100 * MS));
        let now = Instant::now();
        let expected = [0, 1, 4].map(|ahead| pace.expected(now, ahead) - now);
        assert_eq!(expected, [100 * MS, 200 * MS, 500 * MS]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cell_in_hand_is_kept_and_used_once() {
        let mut pace = pace(1);
        tokio::time::advance(100 * MS).await;
        for _ in 0..3 {
            assert_eq!(pace.ready(Instant::now()), Ok(()));
        }
        pace.spend();
        assert_eq!(go(&mut pace), Err(100 * MS));
        pace.refund();
        assert_eq!(go(&mut pace), Ok(()));
        assert_eq!(go(&mut pace), Err(100 * MS));
    }
}
