//! One lane: the calls of one family to one region, and who goes next.
//!
//! A request needs a slot of the region's quota and one of its skill's, both or
//! none. Requests of one skill go in the order in which they came; skills take
//! turns, and a skill that has used its own quota up does not hold up the others.
//! A request that is not expected to get through before its deadline is refused
//! at once; one that leaves gives up its place.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::estimate::Estimate;
use super::quota::Quota;
use super::window::Window;
use super::{Answered, FamilyQuotas, LaneSnapshot, QueueLimits, Refusal, Scope};
use crate::token::SkillId;

/// Whose quota a request counts against: a skill's, or the one that all requests
/// without a skill share.
type TenantKey = Option<SkillId>;

pub(super) struct Lane {
    state: Mutex<State>,
    /// Something happened that may let a waiting request go, or changes when.
    changed: Notify,
}

struct State {
    quotas: FamilyQuotas,
    limits: QueueLimits,
    region: Window,
    tenants: HashMap<TenantKey, Tenant>,
    /// The tenants with a queue, in the order of their turns.
    turns: VecDeque<TenantKey>,
    queued: usize,
    next_seq: u64,
    round_trip: Estimate,
    /// By how much those who waited were served later than they were told, for
    /// answers come when they come and timers are coarse.
    lateness: Estimate,
    /// What was sent before this moment is not known for tenants that are new.
    unknown_before: Option<Instant>,
    /// Idle tenants are forgotten when there are this many.
    sweep_at: usize,
}

#[derive(Default)]
struct Tenant {
    window: Window,
    queue: VecDeque<Waiting>,
}

struct Waiting {
    seq: u64,
    /// When it was expected to get its turn.
    expected_at: Instant,
    deadline: Instant,
    grant: oneshot::Sender<Permit>,
}

/// The right to make one call. Whoever holds it has a slot of every quota that
/// applies. Dropping it gives them back: at once if nothing was sent, otherwise
/// one window after the drop.
pub struct Permit {
    lane: Arc<Lane>,
    tenant: TenantKey,
    sent_at: Option<Instant>,
    /// How long the request waited for it.
    waited: Duration,
}

impl Lane {
    pub(super) fn new(quotas: FamilyQuotas, limits: QueueLimits) -> Self {
        let state = State {
            quotas,
            limits,
            region: Window::default(),
            tenants: HashMap::new(),
            turns: VecDeque::new(),
            queued: 0,
            next_seq: 0,
            round_trip: Estimate::default(),
            lateness: Estimate::default(),
            unknown_before: None,
            sweep_at: SWEEP_FROM,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// Waits for a permit. Cancelling gives up the place in the queue.
    pub(super) async fn admit(
        self: &Arc<Self>,
        skill: Option<&SkillId>,
        deadline: Instant,
    ) -> Result<Permit, Refusal> {
        let asked_at = Instant::now();
        let mut place = match self.enter(skill, asked_at, deadline)? {
            Entered::Admitted(permit) => return Ok(permit),
            Entered::Queued(place) => place,
        };
        self.changed.notify_one();
        match timeout_at(deadline, &mut place.grant).await {
            Ok(Ok(mut permit)) => {
                permit.waited = asked_at.elapsed();
                Ok(permit)
            }
            // The turn came too late, the deadline has passed, or the lane has ended.
            _ => Err(self.lock().refusal(&place.tenant, Instant::now())),
        }
    }

    /// Whether a request that came now could be served in time.
    pub(super) fn check(&self, skill: Option<&SkillId>, deadline: Instant) -> Result<(), Refusal> {
        let now = Instant::now();
        let mut state = self.lock();
        let tenant = state.tenant(skill);
        match state.may_go(&tenant, now) {
            true => Ok(()),
            false => state.expect_turn(&tenant, now, deadline).map(drop),
        }
    }

    fn enter(
        self: &Arc<Self>,
        skill: Option<&SkillId>,
        now: Instant,
        deadline: Instant,
    ) -> Result<Entered, Refusal> {
        let mut unclaimed = Vec::new();
        let mut state = self.lock();
        let tenant = state.tenant(skill);
        self.grant_ready(&mut state, now, &mut unclaimed);
        let entered = if state.may_go(&tenant, now) {
            state.take(&tenant);
            Ok(Entered::Admitted(Permit::new(self, tenant)))
        } else {
            state
                .enqueue(tenant, now, deadline)
                .map(|(tenant, seq, grant)| {
                    Entered::Queued(Place {
                        lane: Arc::clone(self),
                        tenant,
                        seq,
                        grant,
                    })
                })
        };
        drop(state);
        drop(unclaimed);
        entered
    }

    /// Hands permits to those whose turn has come, for as long as the lane lives.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let mut unclaimed = Vec::new();
            let next = {
                let mut state = self.lock();
                let now = Instant::now();
                self.grant_ready(&mut state, now, &mut unclaimed);
                state.next_turn(now)
            };
            // A permit that nobody claimed takes the lock to give itself back.
            drop(unclaimed);
            match next {
                Some(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = sleep_until(at) => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// Grants until a quota is used up or nobody waits. Permits whose receivers
    /// have left meanwhile go to `unclaimed`, to be dropped without the lock.
    fn grant_ready(self: &Arc<Self>, state: &mut State, now: Instant, unclaimed: &mut Vec<Permit>) {
        while let Some((tenant, grant)) = state.next_ready(now) {
            state.take(&tenant);
            unclaimed.extend(grant.send(Permit::new(self, tenant)).err());
        }
    }

    pub(super) fn reconfigure(&self, quotas: FamilyQuotas, limits: QueueLimits) {
        self.lock().reconfigure(quotas, limits, Instant::now());
        self.changed.notify_one();
    }

    pub(super) fn snapshot(&self) -> LaneSnapshot {
        let state = self.lock();
        LaneSnapshot {
            quota_region: state.quotas.region,
            quota_skill: state.quotas.skill,
            in_flight: state.region.in_flight(),
            region_slots_used: state.region.used(),
            queued: state.queued,
            skills: state.tenants.len(),
            round_trip_seconds: state.round_trip.mean().as_secs_f64(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The tenant that a request counts against. When too many skills are known,
    /// new ones share the bucket of requests without one.
    fn tenant(&mut self, skill: Option<&SkillId>) -> TenantKey {
        let key = skill.cloned();
        if !self.tenants.contains_key(&key) {
            if self.tenants.len() >= self.sweep_at.min(self.limits.max_skills) {
                self.forget_idle(Instant::now());
            }
            if key.is_some() && self.tenants.len() >= self.limits.max_skills {
                return self.tenant(None);
            }
            let mut tenant = Tenant::default();
            if let (Some(quota), Some(since)) = (&self.quotas.skill, self.unknown_before) {
                tenant.window.spend(quota, since);
            }
            self.tenants.insert(key.clone(), tenant);
        }
        key
    }

    /// A tenant that is not idle is never forgotten: that would be a fresh burst.
    fn forget_idle(&mut self, now: Instant) {
        let quota = self.quotas.skill;
        self.tenants.retain(|_, tenant| {
            !tenant.queue.is_empty() || !tenant.window.is_idle(quota.as_ref(), now)
        });
        self.sweep_at = (2 * self.tenants.len()).max(SWEEP_FROM);
    }

    /// Whether a request that came now may go: nobody of its tenant waits and all
    /// slots are free. Those of other tenants that could go have gone.
    fn may_go(&mut self, key: &TenantKey, now: Instant) -> bool {
        let Some(tenant) = self.tenants.get_mut(key) else {
            return false;
        };
        tenant.queue.is_empty()
            && tenant.window.has_free(self.quotas.skill.as_ref(), now)
            && self.region.has_free(self.quotas.region.as_ref(), now)
    }

    fn take(&mut self, key: &TenantKey) {
        self.region.take();
        if let Some(tenant) = self.tenants.get_mut(key) {
            tenant.window.take();
        }
    }

    fn enqueue(
        &mut self,
        key: TenantKey,
        now: Instant,
        deadline: Instant,
    ) -> Result<(TenantKey, u64, oneshot::Receiver<Permit>), Refusal> {
        let expected_at = self.expect_turn(&key, now, deadline)?;
        if self.queued >= self.limits.max_queue {
            return Err(Refusal {
                wait: expected_at - now,
                scope: Scope::Queue,
            });
        }
        let (grant, granted) = oneshot::channel();
        let seq = self.next_seq;
        let tenant = self.tenants.entry(key.clone()).or_default();
        if tenant.queue.is_empty() {
            self.turns.push_back(key.clone());
        }
        tenant.queue.push_back(Waiting {
            seq,
            expected_at,
            deadline,
            grant,
        });
        self.next_seq += 1;
        self.queued += 1;
        Ok((key, seq, granted))
    }

    /// When the turn of one more request is expected, if its answer would then be
    /// there in time.
    fn expect_turn(
        &self,
        key: &TenantKey,
        now: Instant,
        deadline: Instant,
    ) -> Result<Instant, Refusal> {
        let refusal = self.refusal(key, now);
        let expected_at = now + refusal.wait;
        let slack = self.lateness.at_most().max(LEAST_SLACK);
        match expected_at + slack + self.round_trip.usual() <= deadline {
            true => Ok(expected_at),
            false => Err(refusal),
        }
    }

    /// The expected wait of one more request, and the quota that makes it longest.
    fn refusal(&self, key: &TenantKey, now: Instant) -> Refusal {
        let own = self.tenants.get(key);
        let ahead = own.map_or(0, |tenant| tenant.queue.len());
        let wait = |window: &Window, quota: &Option<Quota>, ahead| match quota {
            Some(quota) => window.expected(quota, now, ahead, self.round_trip.mean()) - now,
            None => Duration::ZERO,
        };
        let skill = own.map_or(Duration::ZERO, |own| {
            wait(&own.window, &self.quotas.skill, ahead)
        });
        // Skills take turns: each of the others goes at most once before each of
        // ours and once more before this one.
        let others = self.turns.iter().filter(|other| *other != key);
        let theirs = others.filter_map(|other| self.tenants.get(other));
        let turns: usize = theirs.map(|tenant| tenant.queue.len().min(ahead + 1)).sum();
        let region = wait(&self.region, &self.quotas.region, ahead + turns);
        match region > skill {
            true => Refusal {
                wait: region,
                scope: Scope::Region,
            },
            false => Refusal {
                wait: skill,
                scope: Scope::Skill,
            },
        }
    }

    /// Takes the next request out of its queue if all its slots are free.
    fn next_ready(&mut self, now: Instant) -> Option<(TenantKey, oneshot::Sender<Permit>)> {
        loop {
            let key = self.next_tenant(now)?;
            let queue = &mut self.tenants.get_mut(&key)?.queue;
            let waiting = queue.pop_front()?;
            if !queue.is_empty() {
                self.turns.push_back(key.clone());
            }
            self.queued -= 1;
            self.lateness
                .note(now.saturating_duration_since(waiting.expected_at));
            // A call whose answer would come too late is not made: the request is
            // told by the end of its channel, and the slot is for the next.
            if now + self.round_trip.usual() <= waiting.deadline {
                return Some((key, waiting.grant));
            }
        }
    }

    /// Takes out the first turn whose tenant has a free slot, if the region has.
    fn next_tenant(&mut self, now: Instant) -> Option<TenantKey> {
        let Self {
            turns,
            tenants,
            quotas,
            region,
            ..
        } = self;
        if turns.is_empty() || !region.has_free(quotas.region.as_ref(), now) {
            return None;
        }
        let turn = turns.iter().position(|key| {
            let tenant = tenants.get_mut(key);
            tenant.is_some_and(|tenant| tenant.window.has_free(quotas.skill.as_ref(), now))
        })?;
        turns.remove(turn)
    }

    /// When the next waiting request is known to get its slots. `None` if nobody
    /// waits, or if it takes an answer first.
    fn next_turn(&self, now: Instant) -> Option<Instant> {
        let region = match &self.quotas.region {
            Some(quota) => self.region.next_free(quota, now)?,
            None => now,
        };
        let skill = match &self.quotas.skill {
            Some(quota) => {
                let tenants = self.turns.iter().filter_map(|key| self.tenants.get(key));
                tenants
                    .filter_map(|tenant| tenant.window.next_free(quota, now))
                    .min()?
            }
            None => now,
        };
        (!self.turns.is_empty()).then(|| region.max(skill))
    }

    fn leave(&mut self, key: &TenantKey, seq: u64) {
        let Some(tenant) = self.tenants.get_mut(key) else {
            return;
        };
        let Ok(at) = tenant
            .queue
            .binary_search_by_key(&seq, |waiting| waiting.seq)
        else {
            return;
        };
        tenant.queue.remove(at);
        self.queued -= 1;
        if tenant.queue.is_empty() {
            self.turns.retain(|other| other != key);
        }
    }

    fn give_back(&mut self, permit: &Permit, now: Instant) {
        let tenant = self.tenants.get_mut(&permit.tenant);
        let tenant = tenant.map(|tenant| &mut tenant.window);
        if permit.sent_at.is_some() {
            self.region.give_back_sent(self.quotas.region.as_ref(), now);
            tenant
                .into_iter()
                .for_each(|w| w.give_back_sent(self.quotas.skill.as_ref(), now));
        } else {
            self.region.give_back_unsent();
            tenant.into_iter().for_each(Window::give_back_unsent);
        }
    }

    fn reconfigure(&mut self, quotas: FamilyQuotas, limits: QueueLimits, now: Instant) {
        let old = self.quotas;
        self.region
            .adopt(old.region.as_ref(), quotas.region.as_ref(), now);
        for tenant in self.tenants.values_mut() {
            tenant
                .window
                .adopt(old.skill.as_ref(), quotas.skill.as_ref(), now);
        }
        let longer = |new: &Quota| old.skill.is_none_or(|old| old.per < new.per);
        if quotas.skill.as_ref().is_some_and(longer) {
            self.unknown_before = Some(now);
        }
        (self.quotas, self.limits) = (quotas, limits);
    }
}

/// What came of asking for a permit.
enum Entered {
    Admitted(Permit),
    Queued(Place),
}

/// A place in a queue; dropping it gives it up.
struct Place {
    lane: Arc<Lane>,
    tenant: TenantKey,
    seq: u64,
    grant: oneshot::Receiver<Permit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.lock().leave(&self.tenant, self.seq);
        // `grant` is dropped after this, without the lock: it may hold a permit.
    }
}

impl Permit {
    fn new(lane: &Arc<Lane>, tenant: TenantKey) -> Self {
        Self {
            lane: Arc::clone(lane),
            tenant,
            sent_at: None,
            waited: Duration::ZERO,
        }
    }

    /// How long the request waited for this permit.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Marks the request as handed to the network: from now on the slots cool
    /// when the permit ends.
    pub(crate) fn sent(&mut self) {
        self.sent_at = Some(Instant::now());
    }

    /// Takes [`Permit::sent`] back: the request is known not to have left.
    pub(crate) fn not_sent(&mut self) {
        self.sent_at = None;
    }

    /// Ends the permit at the receipt of the answer's head.
    pub(crate) fn answered(self, _answered: Answered) {
        if let Some(sent_at) = self.sent_at {
            self.lane.lock().round_trip.note(sent_at.elapsed());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.lane.lock();
        state.give_back(self, Instant::now());
        let someone_waits = state.queued > 0;
        drop(state);
        if someone_waits {
            self.lane.changed.notify_one();
        }
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit")
            .field("sent_at", &self.sent_at)
            .finish_non_exhaustive()
    }
}

/// How much later than expected a turn may come on a busy machine.
const LEAST_SLACK: Duration = Duration::from_millis(20);

/// Below this many tenants nobody looks for idle ones.
const SWEEP_FROM: usize = 1024;
