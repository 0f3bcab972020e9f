//! What is counted, for a second, a region or a skill.

use std::ops::AddAssign;

use serde::Serialize;

use super::stats::ratio;

/// Requests by how they ended, and the calls to Alexa that they caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests of skills.
    pub asked: u64,
    /// 2xx responses within the deadline.
    pub served: u64,
    /// 2xx responses after the deadline.
    pub late: u64,
    /// 429 responses of Alexa that were relayed.
    pub relayed_429: u64,
    /// 429 responses that the gateway generated.
    pub refused_429: u64,
    /// Responses that are neither 2xx nor 429.
    pub failed: u64,
    /// Requests served from a stored response.
    pub hits: u64,
    /// Requests that shared another request's call.
    pub collapsed: u64,
    /// Calls sent to Alexa, retries included.
    pub attempts: u64,
    /// Calls within Alexa's quotas.
    pub accepted: u64,
    /// Calls beyond Alexa's quotas.
    pub throttled: u64,
}

impl Counts {
    /// The share of requests served from a stored response.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits, self.asked)
    }

    /// The share of requests that shared another request's call.
    #[must_use]
    pub fn collapsed_share(&self) -> f64 {
        ratio(self.collapsed, self.asked)
    }

    /// Calls to Alexa per request.
    #[must_use]
    pub fn attempts_per_request(&self) -> f64 {
        ratio(self.attempts, self.asked)
    }

    pub(super) fn sum<'a>(counts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        counts.into_iter().for_each(|one| sum += one);
        sum
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.asked += other.asked;
        self.served += other.served;
        self.late += other.late;
        self.relayed_429 += other.relayed_429;
        self.refused_429 += other.refused_429;
        self.failed += other.failed;
        self.hits += other.hits;
        self.collapsed += other.collapsed;
        self.attempts += other.attempts;
        self.accepted += other.accepted;
        self.throttled += other.throttled;
    }
}

/// One second of the trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// By [`Region::index`](crate::region::Region::index).
    pub regions: [Counts; 3],
    /// The longest queue for quotas seen in this second, by
    /// [`Region::index`](crate::region::Region::index).
    pub queued: [u64; 3],
}

impl Second {
    /// The counts of all regions.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::sum(&self.regions)
    }
}
