//! The queue of one lane: who waits, who goes next, and who cannot be served.
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
use super::share::{Rank, Shares, Stake};
use super::tenant::{Standing, Tenant, TenantKey, Waiter};
use super::{
    Answered, Entry, FamilyLimits, LaneSnapshot, Learned, MAX_LEARNED_LISTED, QueueLimits, Refusal,
    Scope,
};
use crate::token::SkillId;

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
        entry: Entry,
        now: Instant,
        deadline: Instant,
    ) -> Result<Entered, Refusal> {
        let tenant = self.tenant(skill, now);
        if self.may_go(tenant, entry, now) {
            self.note_ease(tenant);
            self.take(tenant, now);
            return Ok(Entered::Admitted(tenant));
        }
        let expected_at = self.expect(tenant, entry, now, deadline)?;
        if self.waiting >= self.limits.max_queue {
            self.make_room(tenant, entry, now)?;
        }
        self.note_crowding(tenant, now);
        let (sender, grant) = oneshot::channel();
        let seq = self.next_seq;
        self.next_seq += 1;
        self.waiting += 1;
        let waiter = Waiter {
            seq,
            entry,
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
        match self.may_go(tenant, Entry::New, now) {
            true => Ok(()),
            false => self.expect(tenant, Entry::New, now, deadline).map(drop),
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
            let refusal = self.refusal(tenant, waiter.entry, now);
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

    /// Refuses a request of a tenant whose turn came too late. Between its deadline
    /// and this, the request may have been taken out and its tenant forgotten.
    pub(super) fn refusal(&self, tenant: usize, entry: Entry, now: Instant) -> Refusal {
        if !self.tenants.contains(tenant) {
            return Refusal {
                wait: Duration::ZERO,
                scope: Scope::Skill,
            };
        }
        let (at, scope) = self.expected(tenant, entry, now, now + FURTHEST);
        Refusal {
            wait: at - now,
            scope,
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

    pub(super) fn snapshot(&self, now: Instant) -> LaneSnapshot {
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
    pub(super) fn learned(&self, now: Instant) -> Vec<Learned> {
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

    /// The tenant that a request counts against. When too many skills are known,
    /// new ones share the bucket of requests without one, but for those that have
    /// limits of their own: an invented id must not cost a configured one its part.
    fn tenant(&mut self, skill: Option<&SkillId>, now: Instant) -> usize {
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
    fn may_go(&mut self, tenant: usize, entry: Entry, now: Instant) -> bool {
        let own = &mut self.tenants[tenant];
        own.waiting.ahead(entry) == 0
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

    /// When the turn of one more request is expected, if its answer would then be
    /// there in time.
    fn expect(
        &mut self,
        tenant: usize,
        entry: Entry,
        now: Instant,
        deadline: Instant,
    ) -> Result<Instant, Refusal> {
        let (at, scope) = self.expected(tenant, entry, now, deadline);
        let own = &mut self.tenants[tenant];
        // Where 429s are to be expected, there is to be time left to wait one out;
        // for a pause that does not fit anyway, nothing is gained by keeping time.
        let (left, reserve) = (deadline - now, own.belief.reserve());
        let reserve = match entry {
            Entry::New if reserve < left => reserve.min(left / 2),
            Entry::New | Entry::Again => Duration::ZERO,
        };
        let answered_at = at + reserve + self.round_trip.usual();
        let lateness = &mut own.lateness;
        if answered_at + lateness.at_most().max(LEAST_SLACK) <= deadline {
            return Ok(at);
        }
        if answered_at + LEAST_SLACK <= deadline {
            // Only those who wait show how late turns are; where nobody may wait
            // for fear of it, that has to be found out anew.
            lateness.note(Duration::ZERO);
        }
        Err(Refusal {
            wait: at - now,
            scope,
        })
    }

    /// When one more request is expected to go, and what it waits for longest.
    /// Looks no further than `until`.
    fn expected(
        &self,
        tenant: usize,
        entry: Entry,
        now: Instant,
        until: Instant,
    ) -> (Instant, Scope) {
        let (own, round_trip) = (&self.tenants[tenant], self.round_trip.mean());
        let ahead = own.waiting.ahead(entry);
        let configured = own.configured.expected(now, ahead, 0, round_trip);
        let learned = own.learned.expected(now, ahead, 0, round_trip);
        let paused = own.belief.paused_until(now).unwrap_or(now);
        let skill = configured.max(learned).max(paused);
        let Some(quota) = self.region.quota() else {
            return (skill, Scope::Skill);
        };
        let most = most_until(&quota, until - now);
        let ahead = ahead + self.others_ahead(tenant, ahead, most);
        let kept = self.shares.kept_from(&own.stake);
        let region = self.region.expected(now, ahead, kept, round_trip);
        match region > skill {
            true => (region, Scope::Region),
            false => (skill, Scope::Skill),
        }
    }

    /// How many requests of others go before one of this tenant that has `ahead`
    /// of its own before it. Stops counting at `most`.
    fn others_ahead(&self, tenant: usize, ahead: usize, most: usize) -> usize {
        let own = &self.tenants[tenant];
        let steps = stride(own.stake.weight).saturating_mul(ahead as u64);
        let due = own.tag.max(self.virtual_time).saturating_add(steps);
        let ready = self.ready.iter().map(|(_, _, other)| *other);
        let blocked = self.blocked.iter().map(|(_, other)| *other);
        let mut count = 0;
        for other in ready.chain(blocked).filter(|other| *other != tenant) {
            let other = &self.tenants[other];
            if let Some(earlier) = due.checked_sub(other.tag) {
                let turns = usize::try_from(earlier / stride(other.stake.weight));
                count += turns
                    .unwrap_or(usize::MAX)
                    .saturating_add(1)
                    .min(other.waiting.len());
            }
            if count >= most {
                break;
            }
        }
        count
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
    fn make_room(&mut self, tenant: usize, entry: Entry, now: Instant) -> Result<(), Refusal> {
        let full = |queue: &Self, of, entry| Refusal {
            scope: Scope::Queue,
            ..queue.refusal(of, entry, now)
        };
        let longest = self
            .tenants
            .iter()
            .max_by_key(|(_, tenant)| tenant.waiting.len());
        let own = self.tenants[tenant].waiting.len();
        let Some((longest, _)) = longest.filter(|(_, other)| other.waiting.len() > own + 1) else {
            return Err(full(self, tenant, entry));
        };
        if let Some(last) = self.tenants[longest].waiting.pop_last() {
            self.waiting -= 1;
            last.grant.send(Err(full(self, longest, last.entry))).ok();
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

/// How many requests a quota lets pass within a time, at the most.
fn most_until(quota: &Quota, time: Duration) -> usize {
    let windows = time.as_nanos() / quota.per.as_nanos().max(1) + 2;
    usize::try_from(windows)
        .unwrap_or(usize::MAX)
        .saturating_mul(slots(quota))
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// How much later than expected a turn may come on a busy machine.
const LEAST_SLACK: Duration = Duration::from_millis(20);

/// Below this many tenants nobody looks for idle ones.
const SWEEP_FROM: usize = 1024;

/// Nor more often than this: where all are busy, each skill that is new would look
/// through all of them.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How many tenants are asked whether they may go: where the first 64 have to leave
/// slots free, so have those behind them, for whoever has not comes before them.
const MOST_CANDIDATES: usize = 64;

/// How far ahead a refusal looks.
const FURTHEST: Duration = Duration::from_secs(8);
