//! How many retries one region may have.
//!
//! Why, when the attempts of a call are limited? That limit bounds what one call does to
//! a failing upstream: three times the load at the worst moment. A budget bounds what all
//! calls do together. Retries are limited to a share of the first attempts of the last
//! ten seconds, plus a small floor, without which a quiet gateway would never retry. The
//! bucket is tower's, on tokio's clock.

use std::time::Duration;

use arc_swap::ArcSwap;
use tower::retry::budget::{Budget as _, TpsBudget};

/// How long an attempt counts. tower accepts 1 to 60 s and expires in ten steps.
const RECENT: Duration = Duration::from_secs(10);

/// How many retries one region may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Retries as a share of recent first attempts, 0 to 100.
    pub percent: u32,
    /// Retries per second that are allowed without any traffic.
    pub min_per_second: u32,
}

/// The budget of one region.
#[derive(Debug)]
pub(super) struct Budget {
    bucket: ArcSwap<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    policy: Policy,
    bucket: TpsBudget,
}

impl Budget {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            bucket: ArcSwap::from_pointee(Bucket::new(policy)),
        }
    }

    /// Applies a new policy. If it differs, recent attempts are forgotten and the whole
    /// floor is available.
    pub(super) fn reconfigure(&self, policy: Policy) {
        if self.bucket.load().policy != policy {
            self.bucket.store(Bucket::new(policy).into());
        }
    }

    /// Counts a first attempt.
    pub(super) fn deposit(&self) {
        self.bucket.load().bucket.deposit();
    }

    /// Pays for one retry. Returns whether the budget allows it.
    pub(super) fn withdraw(&self) -> bool {
        self.bucket.load().bucket.withdraw()
    }
}

impl Bucket {
    fn new(policy: Policy) -> Self {
        let share = policy.percent as f32 / 100.0;
        Self {
            policy,
            bucket: TpsBudget::new(RECENT, policy.min_per_second, share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn policy(percent: u32, min_per_second: u32) -> Policy {
        Policy {
            percent,
            min_per_second,
        }
    }

    /// How many retries are left.
    fn left(budget: &Budget) -> u32 {
        (0..).take_while(|_| budget.withdraw()).count() as u32
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_share_of_first_attempts() {
        for percent in 1..=100 {
            let budget = Budget::new(policy(percent, 0));
            (0..1000).for_each(|_| budget.deposit());
            assert_eq!(left(&budget), 1000 / (100 / percent), "{percent} %");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_floor_needs_no_traffic_and_refills() {
        let budget = Budget::new(policy(10, 1));
        assert_eq!(left(&budget), 10);
        advance(RECENT / 2).await;
        assert_eq!(left(&budget), 0);
        advance(RECENT).await;
        assert_eq!(left(&budget), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_budget_allows_no_retry() {
        let budget = Budget::new(policy(0, 0));
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(left(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn old_attempts_expire() {
        let budget = Budget::new(policy(10, 0));
        (0..1000).for_each(|_| budget.deposit());
        advance(2 * RECENT).await;
        assert_eq!(left(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_changed_policy_resets_the_budget() {
        let budget = Budget::new(policy(10, 1));
        assert_eq!(left(&budget), 10);
        budget.reconfigure(policy(10, 1));
        assert_eq!(left(&budget), 0);
        budget.reconfigure(policy(10, 2));
        assert_eq!(left(&budget), 20);
    }
}
