//! The queue of one lane: who waits, and who goes next.
//!
//! A request passes the gate of its region and those of its tenant, all or none.
//! Among tenants whose own gates are open, those below their [floor](super::share)
//! go first, then those within their share, then those over it, and within each the
//! one whose virtual time is least: a request of a tenant of weight w moves the
//! tenant on by 1/w (start-time fair queueing: Goyal, Vin, Cheng, "Start-Time Fair
//! Queueing", SIGCOMM 1996). A tenant that was away, or held back by its own quota,
//! does not save up turns.
//!
//! Everything here is done under the lane's lock and with the time passed in.

mod forecast;
mod known;
mod status;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use slab::Slab;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::adaptive::Notice;
use super::estimate::Estimate;
use super::gate::{Gate, Turn};
use super::lane::Permit;
use super::quota::Quota;
use super::share::{Rank, Shares};
use super::tenant::{Standing, Tenant, TenantKey, Waiter};
use super::{Answered, FamilyLimits, Priority, QueueLimits, Refusal, Scope};
use crate::token::SkillId;
use known::SWEEP_FROM;

/// Whose a slot of the region is: a tenant's index, or this.
const NOBODY: usize = usize::MAX;

pub(super) struct Queue {
    config: FamilyLimits,
    limits: QueueLimits,
    region: Gate<usize>,
    shares: Shares,
    tenants: Slab<Tenant>,
    index: HashMap<TenantKey, usize>,
    /// Tenants whose own gates are open: rank, due, index.
    ready: BTreeSet<(Rank, u64, usize)>,
    /// Tenants whose own gates open at a known moment.
    blocked: BTreeSet<(Instant, usize)>,
    /// The due time of the request that went last.
    virtual_time: u64,
    waiting: usize,
    next_seq: u64,
    round_trip: Estimate,
    /// What was sent before this moment is not known for tenants that are new.
    unknown_before: Option<Instant>,
    /// Idle tenants are forgotten when there are this many, and not before this
    /// moment.
    sweep_at: usize,
    next_sweep: Option<Instant>,
}

/// A place in the queue.
pub(super) struct Queued {
    pub(super) tenant: usize,
    pub(super) seq: u64,
    pub(super) grant: oneshot::Receiver<Result<Permit, Refusal>>,
}

/// What became of a request that came.
pub(super) enum Entered {
    /// It may go: all its slots are taken.
    Admitted(usize),
    Queued(Queued),
}

impl Queue {
    pub(super) fn new(config: FamilyLimits, limits: QueueLimits) -> Self {
        let mut queue = Self {
            config: FamilyLimits::default(),
            limits,
            region: Gate::new(),
            shares: Shares::default(),
            tenants: Slab::new(),
            index: HashMap::new(),
            ready: BTreeSet::new(),
            blocked: BTreeSet::new(),
            virtual_time: 0,
            waiting: 0,
            next_seq: 0,
            round_trip: Estimate::default(),
            unknown_before: None,
            sweep_at: SWEEP_FROM,
            next_sweep: None,
        };
        // The quotas that a process starts with have nothing unknown before them.
        queue.region.start(config.region);
        queue.shares.set_floors(config.floors());
        queue.config = config;
        queue
    }

    /// Lets a request pass, or lets it wait if its turn is expected in time.
    ///
    /// # Errors
    /// It is not expected in time, or too many wait.
    pub(super) fn enter(
        &mut self,
        skill: Option<&SkillId>,
        priority: Priority,
        now: Instant,
        deadline: Instant,
    ) -> Result<Entered, Refusal> {
        let tenant = self.tenant(skill, now);
        if self.may_go(tenant, priority, now) {
            self.note_ease(tenant);
            self.take(tenant, now);
            return Ok(Entered::Admitted(tenant));
        }
        let expected_at = self.expect(tenant, priority, now, deadline)?;
        if self.waiting >= self.limits.max_queue {
            self.make_room(tenant, priority, now)?;
        }
        self.note_crowding(tenant, now);
        let (sender, grant) = oneshot::channel();
        let seq = self.next_seq;
        self.next_seq += 1;
        self.waiting += 1;
        let waiter = Waiter {
            seq,
            priority,
            expected_at,
            deadline,
            grant: sender,
        };
        self.tenants[tenant].waiting.push(waiter);
        self.settle(tenant, now);
        Ok(Entered::Queued(Queued { tenant, seq, grant }))
    }

    /// Whether a request that came now could be served in time.
    ///
    /// # Errors
    /// It could not.
    pub(super) fn check(
        &mut self,
        skill: Option<&SkillId>,
        now: Instant,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        self.advance(now);
        let tenant = self.tenant(skill, now);
        match self.may_go(tenant, Priority::New, now) {
            true => Ok(()),
            false => self.expect(tenant, Priority::New, now, deadline).map(drop),
        }
    }

    /// Takes out the next request that may go, with its slots taken. Those whose
    /// answer would come too late are refused on the way: a call is not made for
    /// the dead, and the slot is for the next.
    pub(super) fn next(&mut self, now: Instant) -> Option<(usize, Waiter)> {
        self.advance(now);
        while let Some(tenant) = self.pick(now) {
            let Some(waiter) = self.tenants[tenant].waiting.pop_first() else {
                self.settle(tenant, now);
                continue;
            };
            self.waiting -= 1;
            let late_by = now.saturating_duration_since(waiter.expected_at);
            self.tenants[tenant].lateness.note(late_by);
            if now + self.round_trip.usual() <= waiter.deadline {
                self.take(tenant, now);
                return Some((tenant, waiter));
            }
            self.settle(tenant, now);
            let refusal = self.refusal(tenant, waiter.priority, now);
            // Whoever has left needs no refusal.
            waiter.grant.send(Err(refusal)).ok();
        }
        None
    }

    /// When to look for the next request that may go. `None` if nobody waits, or
    /// if it takes an answer first.
    pub(super) fn next_turn(&mut self, now: Instant) -> Option<Instant> {
        let blocked = self.blocked.first().map(|(at, _)| *at);
        let ready = match self.ready.is_empty() {
            true => None,
            false => match self.region.turn(now) {
                Turn::At(at) => Some(at),
                // Slots are free, but not for those who are ready.
                Turn::Now => self.region.next_cooled(),
                Turn::AfterAnAnswer => None,
            },
        };
        blocked.into_iter().chain(ready).min()
    }

    /// Gives up a place.
    pub(super) fn leave(&mut self, queued: &Queued, now: Instant) {
        let Some(tenant) = self.tenants.get_mut(queued.tenant) else {
            return;
        };
        if tenant.waiting.remove(queued.seq) {
            self.waiting -= 1;
            self.settle(queued.tenant, now);
        }
    }

    /// Takes slots back: to cool if the request was sent, free at once if not.
    pub(super) fn give_back(&mut self, tenant: usize, sent: bool, now: Instant) {
        let own = &mut self.tenants[tenant];
        let cooling = if sent {
            own.configured.give_back_sent((), now);
            own.learned.give_back_sent((), now);
            self.region.give_back_sent(tenant, now)
        } else {
            own.configured.give_back_unsent();
            own.learned.give_back_unsent();
            self.region.give_back_unsent();
            false
        };
        if !cooling {
            self.shares.release(&mut self.tenants[tenant].stake);
        }
        self.settle(tenant, now);
    }

    pub(super) fn learns(&self) -> bool {
        self.config.adaptive
    }

    /// Learns from an answer to a request that was sent at `sent_at`, while the
    /// learned rate was all in use or not.
    pub(super) fn learn(
        &mut self,
        tenant: usize,
        (sent_at, pressed): (Instant, bool),
        answered: Answered,
        now: Instant,
    ) -> Option<(TenantKey, Notice)> {
        self.round_trip.note(now - sent_at);
        if !self.config.adaptive {
            return None;
        }
        let own = &mut self.tenants[tenant];
        let notice = match answered {
            Answered::Throttled { retry_after } => {
                let others = own.learned.in_flight() - 1;
                own.belief.throttled(now, (sent_at, others), retry_after)
            }
            Answered::Counted => {
                let most = own.configured.quota().map(|quota| quota.per_second());
                if !own.belief.counted(now, sent_at, pressed, most) {
                    return None;
                }
                None
            }
        };
        own.learned.follow(own.belief.quota(), now, ());
        self.settle(tenant, now);
        notice.map(|notice| (self.tenants[tenant].key.clone(), notice))
    }

    /// Applies a new configuration to everything as it is.
    pub(super) fn reconfigure(&mut self, config: FamilyLimits, limits: QueueLimits, now: Instant) {
        let old = std::mem::replace(&mut self.config, config);
        self.limits = limits;
        let mut freed = Vec::new();
        self.region
            .set_quota(self.config.region, now, NOBODY, |owner| freed.push(owner));
        self.release_all(&freed);
        self.shares.set_floors(self.config.floors());
        if self.config.lengthens(&old) {
            self.unknown_before = Some(now);
        }
        let tenants: Vec<usize> = self.tenants.iter().map(|(tenant, _)| tenant).collect();
        for tenant in tenants {
            let own = &mut self.tenants[tenant];
            let (quota, weight, floor) = self.config.of(own.key.as_ref());
            own.configured.set_quota(quota, now, (), drop);
            if !self.config.adaptive {
                own.belief.forget();
            }
            own.learned.follow(own.belief.quota(), now, ());
            self.shares.adjust(&mut own.stake, weight, floor);
            self.settle(tenant, now);
        }
    }

    pub(super) fn is_anyone_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// Whether the tenant's learned rate is all in use.
    pub(super) fn is_pressed(&self, tenant: usize) -> bool {
        self.tenants[tenant].is_pressed()
    }

    /// Brings everything up to now: slots cool, and tenants' gates open.
    fn advance(&mut self, now: Instant) {
        let mut freed = Vec::new();
        self.region.cool(now, |owner| freed.push(owner));
        self.release_all(&freed);
        for &owner in freed.iter().filter(|&&owner| owner != NOBODY) {
            self.settle(owner, now);
        }
        while let Some(&(at, tenant)) = self.blocked.first() {
            if at > now {
                break;
            }
            self.settle(tenant, now);
        }
        if let Some(quota) = self.region.quota()
            && self.shares.is_tick_due(now, quota.per)
        {
            let stakes = self.tenants.iter_mut().map(|(_, tenant)| &mut tenant.stake);
            self.shares.tick(stakes, now);
        }
    }

    fn release_all(&mut self, owners: &[usize]) {
        for &owner in owners.iter().filter(|&&owner| owner != NOBODY) {
            self.shares.release(&mut self.tenants[owner].stake);
        }
    }

    /// Lists a tenant anew, after anything about it has changed.
    fn settle(&mut self, tenant: usize, now: Instant) {
        let own = &mut self.tenants[tenant];
        match own.standing {
            Standing::Ready(rank, tag) => drop(self.ready.remove(&(rank, tag, tenant))),
            Standing::Blocked(at) => drop(self.blocked.remove(&(at, tenant))),
            Standing::Unlisted => {}
        }
        let turn = match own.waiting.is_empty() {
            true => Turn::AfterAnAnswer,
            false => own.turn(now),
        };
        own.standing = match turn {
            Turn::Now => {
                own.tag = own.tag.max(self.virtual_time);
                let quota = self.region.quota();
                let rank = quota.map_or(Rank::WithinShare, |quota| {
                    self.shares.rank(&own.stake, slots(&quota))
                });
                self.ready.insert((rank, own.tag, tenant));
                Standing::Ready(rank, own.tag)
            }
            Turn::At(at) => {
                self.blocked.insert((at, tenant));
                Standing::Blocked(at)
            }
            Turn::AfterAnAnswer => Standing::Unlisted,
        };
    }

    /// Whether a request that came now may go at once. Those of others that could
    /// go have gone.
    fn may_go(&mut self, tenant: usize, priority: Priority, now: Instant) -> bool {
        let own = &mut self.tenants[tenant];
        own.waiting.ahead(priority) == 0
            && own.turn(now) == Turn::Now
            && self.region.turn(now) == Turn::Now
            && self.region_allows(tenant)
    }

    /// Whether the region has a slot for this tenant.
    fn region_allows(&self, tenant: usize) -> bool {
        let (Some(quota), Some(free)) = (self.region.quota(), self.region.free()) else {
            return true;
        };
        let stake = &self.tenants[tenant].stake;
        self.shares.allows(stake, free, slots(&quota))
    }

    /// The tenant that goes next, if one may.
    fn pick(&mut self, now: Instant) -> Option<usize> {
        if self.ready.is_empty() || self.region.turn(now) != Turn::Now {
            return None;
        }
        let candidates = self.ready.iter().map(|(_, _, tenant)| *tenant);
        candidates
            .take(MOST_CANDIDATES)
            .find(|tenant| self.region_allows(*tenant))
    }

    fn take(&mut self, tenant: usize, now: Instant) {
        let window = self
            .region
            .quota()
            .map_or(Duration::ZERO, |quota| quota.per);
        self.region.take();
        let own = &mut self.tenants[tenant];
        own.configured.take();
        own.learned.take();
        own.used_at = Some(now);
        self.shares.take(&mut own.stake, now, window);
        let due = own.tag.max(self.virtual_time);
        self.virtual_time = due;
        own.tag = due + stride(own.stake.weight);
        self.settle(tenant, now);
    }

    /// Notes that a tenant which is within its share, and has nobody waiting, has
    /// to wait for the region while one that is over its share wants more.
    fn note_crowding(&mut self, tenant: usize, now: Instant) {
        let Some(quota) = self.region.quota() else {
            return;
        };
        let own = &mut self.tenants[tenant];
        let polite = own.waiting.is_empty() && !self.shares.is_over(&own.stake, slots(&quota));
        let last = self.ready.last().map(|(rank, _, _)| *rank);
        let noisy = last == Some(Rank::OverShare);
        if polite && noisy && own.turn(now) == Turn::Now {
            self.shares.crowded(slots(&quota));
        }
    }

    /// Notes that a tenant which is within its share did not have to wait.
    fn note_ease(&mut self, tenant: usize) {
        if let Some(quota) = self.region.quota() {
            let stake = &self.tenants[tenant].stake;
            if !self.shares.is_over(stake, slots(&quota)) {
                self.shares.uncrowded(slots(&quota));
            }
        }
    }

    /// Makes room in a full queue, at the cost of the tenant with most waiting.
    ///
    /// # Errors
    /// That is the one who asks.
    fn make_room(
        &mut self,
        tenant: usize,
        priority: Priority,
        now: Instant,
    ) -> Result<(), Refusal> {
        let full = |queue: &Self, of, priority| Refusal {
            scope: Scope::Queue,
            ..queue.refusal(of, priority, now)
        };
        let longest = self
            .tenants
            .iter()
            .max_by_key(|(_, tenant)| tenant.waiting.len());
        let own = self.tenants[tenant].waiting.len();
        let Some((longest, _)) = longest.filter(|(_, other)| other.waiting.len() > own + 1) else {
            return Err(full(self, tenant, priority));
        };
        if let Some(last) = self.tenants[longest].waiting.pop_last() {
            self.waiting -= 1;
            last.grant
                .send(Err(full(self, longest, last.priority)))
                .ok();
            self.settle(longest, now);
        }
        Ok(())
    }
}

fn slots(quota: &Quota) -> usize {
    quota.requests.get() as usize
}

/// How far one request moves a tenant on. The unit is fine enough for the largest
/// weight, and large enough to last: 2⁶⁴ / 2²⁰ requests are half a million years.
fn stride(weight: u32) -> u64 {
    (1 << 20) / u64::from(weight.max(1))
}

/// How many tenants are asked whether they may go: where the first 64 have to leave
/// slots free, so have those behind them, for whoever has not comes before them.
const MOST_CANDIDATES: usize = 64;
