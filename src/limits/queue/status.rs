//! What the status page shows of learned quotas.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;

use super::tenants::Tenants;
use crate::limits::snapshot::{Learned, MAX_LEARNED_LISTED};

/// The learned quotas of the tenants that were throttled last, latest first.
pub(super) fn learned(tenants: &Tenants, now: Instant) -> Vec<Learned> {
    let estimated = tenants
        .iter()
        .filter_map(|tenant| Some((tenant, tenant.learner.estimate(now)?)));
    let mut estimated: Vec<_> = estimated.collect();
    estimated.sort_by_key(|(_, estimate)| Reverse(estimate.last_429));
    estimated.truncate(MAX_LEARNED_LISTED);
    let learned = estimated.into_iter().map(|(tenant, estimate)| {
        let paused = tenant.learner.paused_until(now);
        let paused = paused.map_or(Duration::ZERO, |until| until - now);
        Learned {
            skill: tenant.key.as_ref().map(ToString::to_string),
            limit_per_second: rounded(estimate.rate),
            safe_per_second: rounded(estimate.safe),
            confidence: rounded(estimate.confidence),
            throttled: estimate.throttled,
            last_429_seconds_ago: (now - estimate.last_429).as_secs(),
            paused_seconds: rounded(paused.as_secs_f64()),
            queued: tenant.waiting.len(),
        }
    });
    learned.collect()
}

/// Two decimal places.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
