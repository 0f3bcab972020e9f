//! How many retries one region may have.
//!
//! Why, when attempts are capped already? A cap bounds what one call does to a
//! failing upstream, three times the load at the worst moment; a budget bounds
//! what all calls do together. Retries are a share of the first attempts of the
//! last ten seconds, and a small floor, without which a quiet gateway would never
//! retry. The bucket is tower's, on tokio's clock.

use std::time::Duration;

use arc_swap::ArcSwap;
use tower::retry::budget::{Budget as _, TpsBudget};

use crate::config::file::Retry;

/// What is recent. tower takes 1 to 60 s and forgets in ten steps.
const RECENT: Duration = Duration::from_secs(10);

/// The budget of one region.
#[derive(Debug)]
pub(super) struct Budget {
    bucket: ArcSwap<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    percent: u32,
    min_per_second: u32,
    bucket: TpsBudget,
}

impl Budget {
    pub(super) fn new(policy: &Retry) -> Self {
        Self {
            bucket: ArcSwap::from_pointee(Bucket::new(policy)),
        }
    }

    /// Applies a new policy. If it differs, recent traffic is forgotten and the
    /// floor is there at once.
    pub(super) fn reconfigure(&self, policy: &Retry) {
        let now = self.bucket.load();
        let same = now.percent == policy.budget_percent
            && now.min_per_second == policy.budget_min_per_second;
        if !same {
            self.bucket.store(Bucket::new(policy).into());
        }
    }

    /// Notes a first attempt.
    pub(super) fn deposit(&self) {
        self.bucket.load().bucket.deposit();
    }

    /// Pays for a retry, or answers that there may be none.
    pub(super) fn withdraw(&self) -> bool {
        self.bucket.load().bucket.withdraw()
    }
}

impl Bucket {
    fn new(policy: &Retry) -> Self {
        let (percent, min_per_second) = (policy.budget_percent, policy.budget_min_per_second);
        Self {
            percent,
            min_per_second,
            bucket: TpsBudget::new(RECENT, min_per_second, percent as f32 / 100.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn policy(budget_percent: u32, budget_min_per_second: u32) -> Retry {
        Retry {
            max_attempts: 3.try_into().unwrap(),
            base_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
            budget_percent,
            budget_min_per_second,
        }
    }

    /// How many retries it allows in a row.
    fn left(budget: &Budget) -> u32 {
        (0..).take_while(|_| budget.withdraw()).count() as u32
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_share_of_first_attempts() {
        for percent in 1..=100 {
            let budget = Budget::new(&policy(percent, 0));
            (0..1000).for_each(|_| budget.deposit());
            assert_eq!(left(&budget), 1000 / (100 / percent), "{percent} %");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_floor_is_there_without_traffic_and_comes_back() {
        let budget = Budget::new(&policy(10, 1));
        assert_eq!(left(&budget), 10);
        advance(RECENT / 2).await;
        assert_eq!(left(&budget), 0);
        advance(RECENT).await;
        assert_eq!(left(&budget), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_of_nothing_allows_nothing() {
        let budget = Budget::new(&policy(0, 0));
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(left(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn old_traffic_counts_no_more() {
        let budget = Budget::new(&policy(10, 0));
        (0..1000).for_each(|_| budget.deposit());
        advance(2 * RECENT).await;
        assert_eq!(left(&budget), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_policy_that_differs_begins_anew() {
        let budget = Budget::new(&policy(10, 1));
        assert_eq!(left(&budget), 10);
        budget.reconfigure(&policy(10, 1));
        assert_eq!(left(&budget), 0);
        budget.reconfigure(&policy(10, 2));
        assert_eq!(left(&budget), 20);
    }
}
