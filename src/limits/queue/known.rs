//! Which skills are told apart, and which are forgotten.

use std::time::Duration;

use tokio::time::Instant;

use super::Queue;
use crate::limits::share::Stake;
use crate::limits::tenant::Tenant;
use crate::token::SkillId;

impl Queue {
    /// The tenant that a request counts against. When too many skills are known,
    /// new ones share the bucket of requests without one, but for those that have
    /// limits of their own: an invented id must not cost a configured one its part.
    pub(super) fn tenant(&mut self, skill: Option<&SkillId>, now: Instant) -> usize {
        let key = skill.cloned();
        if let Some(&tenant) = self.index.get(&key) {
            return tenant;
        }
        if self.tenants.len() >= self.sweep_at.min(self.limits.max_skills)
            && self.next_sweep.is_none_or(|at| at <= now)
        {
            self.forget_idle(now);
        }
        if self.config.is_any(key.as_ref()) && self.tenants.len() >= self.limits.max_skills {
            return self.tenant(None, now);
        }
        let (quota, weight, floor) = self.config.of(key.as_ref());
        let mut tenant = Tenant::new(key.clone(), Stake::new(weight, floor));
        match self.unknown_before {
            Some(since) => tenant.configured.set_quota(quota, since, (), drop),
            None => tenant.configured.start(quota),
        }
        let tenant = self.tenants.insert(tenant);
        self.index.insert(key, tenant);
        tenant
    }

    /// Forgets those of whom nothing would be lost. One that holds a slot is never
    /// forgotten: that would be a fresh burst.
    fn forget_idle(&mut self, now: Instant) {
        let tenants = self.tenants.iter_mut();
        let idle = tenants.filter_map(|(at, tenant)| tenant.is_idle(now).then_some(at));
        for tenant in idle.collect::<Vec<_>>() {
            self.forget(tenant);
        }
        if self.tenants.len() >= self.limits.max_skills {
            self.forget_beliefs(now);
        }
        self.sweep_at = (2 * self.tenants.len()).max(SWEEP_FROM);
        self.next_sweep = Some(now + SWEEP_EVERY);
    }

    /// Makes room in a full table at the cost of what was learned of skills that are
    /// not in use: an eighth of the table, those that were used last go last. An
    /// invented id that was answered 429 must not keep a real one out for an hour.
    fn forget_beliefs(&mut self, now: Instant) {
        let (tenants, config) = (self.tenants.iter_mut(), &self.config);
        let at_rest = tenants.filter_map(|(at, tenant)| {
            let goes = config.is_any(tenant.key.as_ref()) && tenant.is_at_rest(now);
            goes.then_some((tenant.used_at, at))
        });
        let mut at_rest: Vec<_> = at_rest.collect();
        at_rest.sort_unstable();
        at_rest.truncate(self.limits.max_skills.div_ceil(8));
        for (_, tenant) in at_rest {
            self.forget(tenant);
        }
    }

    fn forget(&mut self, tenant: usize) {
        let mut tenant = self.tenants.remove(tenant);
        self.shares.forget(&mut tenant.stake);
        self.index.remove(&tenant.key);
    }
}

/// Below this many tenants nobody looks for idle ones.
pub(super) const SWEEP_FROM: usize = 1024;

/// Nor more often than this: where all are busy, each skill that is new would look
/// through all of them.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
