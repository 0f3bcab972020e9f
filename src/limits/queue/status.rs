//! What the status page shows of a queue.

use tokio::time::Instant;

use super::Queue;
use crate::limits::tenant::Tenant;
use crate::limits::{LaneSnapshot, Learned, MAX_LEARNED_LISTED};

impl Queue {
    pub(in crate::limits) fn snapshot(&self, now: Instant) -> LaneSnapshot {
        let tenants = || self.tenants.iter().map(|(_, tenant)| &tenant.belief);
        let learned = tenants().filter(|belief| belief.believed(now).is_some());
        let paused = tenants().filter(|belief| belief.paused_until(now).is_some());
        LaneSnapshot {
            quota_region: self.config.region,
            quota_skill: self.config.skill,
            in_flight: self.region.in_flight(),
            region_slots_used: self.region.used(),
            queued: self.waiting,
            skills: self.tenants.len(),
            learned_skills: learned.count(),
            paused_skills: paused.count(),
            round_trip_seconds: self.round_trip.mean().as_secs_f64(),
        }
    }

    /// What has been learned of the skills that were throttled last.
    pub(in crate::limits) fn learned(&self, now: Instant) -> Vec<Learned> {
        let believed = |tenant: &Tenant| tenant.belief.believed(now);
        let mut tenants: Vec<_> = self.tenants.iter().map(|(_, tenant)| tenant).collect();
        tenants.retain(|tenant| believed(tenant).is_some());
        tenants.sort_by_key(|tenant| std::cmp::Reverse(believed(tenant).map(|b| b.last_429)));
        tenants.truncate(MAX_LEARNED_LISTED);
        let learned = tenants.into_iter().filter_map(|tenant| {
            let believed = believed(tenant)?;
            let paused = tenant.belief.paused_until(now);
            Some(Learned {
                skill: tenant.key.as_ref().map(ToString::to_string),
                limit_per_second: rounded(believed.rate),
                safe_per_second: rounded(believed.safe),
                confidence: rounded(believed.confidence),
                throttled: tenant.belief.throttled_total(),
                last_429_seconds_ago: (now - believed.last_429).as_secs(),
                paused_seconds: rounded(paused.map_or(0.0, |until| (until - now).as_secs_f64())),
                queued: tenant.waiting.len(),
            })
        });
        learned.collect()
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
