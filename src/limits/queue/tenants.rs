//! The table of tenants, bounded by a maximum number of skills.
//!
//! Anybody can send an invented skill id, so the table has to be bounded, and an
//! invented skill must not cost a real one its quota. A tenant that holds a slot is
//! never evicted, because it would come back with a fresh burst.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::key::{TenantId, TenantKey};
use super::shares::Usage;
use super::tenant::Tenant;
use crate::limits::policy::{FamilyLimits, SkillLimits};
use crate::limits::quota::Gate;

pub(super) struct Tenants {
    slab: Slab<Tenant>,
    index: HashMap<TenantKey, TenantId>,
    /// Requests before this time are unknown for tenants that are new.
    unknown_before: Option<Instant>,
    /// The size at which idle tenants are evicted, and the earliest time.
    sweep_at: usize,
    next_sweep: Option<Instant>,
}

impl Default for Tenants {
    fn default() -> Self {
        Self {
            slab: Slab::new(),
            index: HashMap::new(),
            unknown_before: None,
            sweep_at: MIN_SWEEP,
            next_sweep: None,
        }
    }
}

impl Tenants {
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn find(&self, key: &TenantKey) -> Option<TenantId> {
        self.index.get(key).copied()
    }

    pub(super) fn insert(&mut self, key: TenantKey, limits: SkillLimits) -> TenantId {
        let gate = match self.unknown_before {
            Some(since) => Gate::exhausted(limits.quota, since),
            None => Gate::full(limits.quota),
        };
        let usage = Usage::new(limits.weight, limits.floor);
        let tenant = Tenant::new(key.clone(), gate, usage);
        let id = TenantId(self.slab.insert(tenant));
        self.index.insert(key, id);
        id
    }

    /// Declares requests before `now` unknown: quotas of new tenants start exhausted.
    pub(super) fn forget_history(&mut self, now: Instant) {
        self.unknown_before = Some(now);
    }

    /// Whether the table is to be swept before another tenant is added.
    pub(super) fn is_sweep_due(&self, max_skills: usize, now: Instant) -> bool {
        self.len() >= self.sweep_at.min(max_skills) && self.next_sweep.is_none_or(|at| at <= now)
    }

    /// Evicts idle tenants; if the table is still full, learned quotas too. Returns
    /// what the evicted tenants had of the region.
    pub(super) fn sweep(
        &mut self,
        limits: &FamilyLimits,
        max_skills: usize,
        now: Instant,
    ) -> Vec<Usage> {
        let tenants = self.slab.iter_mut();
        let idle = tenants.filter_map(|(id, tenant)| tenant.is_idle(now).then_some(TenantId(id)));
        let idle: Vec<_> = idle.collect();
        let mut evicted: Vec<_> = idle.into_iter().map(|id| self.evict(id)).collect();
        if self.len() >= max_skills {
            let at_rest = self.longest_at_rest(limits, max_skills.div_ceil(8), now);
            evicted.extend(at_rest.into_iter().map(|id| self.evict(id)));
        }
        self.sweep_at = (2 * self.len()).max(MIN_SWEEP);
        self.next_sweep = Some(now + SWEEP_INTERVAL);
        evicted
    }

    /// Up to `most` tenants that are not in use, those first that were used least
    /// recently. Skills with limits of their own are not among them.
    fn longest_at_rest(
        &mut self,
        limits: &FamilyLimits,
        most: usize,
        now: Instant,
    ) -> Vec<TenantId> {
        let at_rest = self.slab.iter_mut().filter_map(|(id, tenant)| {
            let evictable = limits.is_unconfigured(tenant.key.as_ref()) && tenant.is_at_rest(now);
            evictable.then_some((tenant.last_admitted, TenantId(id)))
        });
        let mut at_rest: Vec<_> = at_rest.collect();
        at_rest.sort_unstable();
        at_rest.truncate(most);
        at_rest.into_iter().map(|(_, id)| id).collect()
    }

    fn evict(&mut self, id: TenantId) -> Usage {
        let tenant = self.slab.remove(id.0);
        self.index.remove(&tenant.key);
        tenant.usage
    }

    pub(super) fn get_mut(&mut self, id: TenantId) -> Option<&mut Tenant> {
        self.slab.get_mut(id.0)
    }

    pub(super) fn contains(&self, id: TenantId) -> bool {
        self.slab.contains(id.0)
    }

    pub(super) fn ids(&self) -> Vec<TenantId> {
        self.slab.iter().map(|(id, _)| TenantId(id)).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Tenant> {
        self.slab.iter().map(|(_, tenant)| tenant)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tenant> {
        self.slab.iter_mut().map(|(_, tenant)| tenant)
    }

    /// The tenant with most waiting requests.
    pub(super) fn busiest(&self) -> Option<TenantId> {
        let busiest = self
            .slab
            .iter()
            .max_by_key(|(_, tenant)| tenant.waiting.len());
        busiest.map(|(id, _)| TenantId(id))
    }
}

impl Index<TenantId> for Tenants {
    type Output = Tenant;

    fn index(&self, id: TenantId) -> &Tenant {
        &self.slab[id.0]
    }
}

impl IndexMut<TenantId> for Tenants {
    fn index_mut(&mut self, id: TenantId) -> &mut Tenant {
        &mut self.slab[id.0]
    }
}

/// Smaller tables are not swept.
const MIN_SWEEP: usize = 1024;

/// The least time between two sweeps. Otherwise each new skill would search the whole
/// table while all tenants are busy.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
