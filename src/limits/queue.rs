//! The queue of one lane: who waits, who goes next, and who is refused.
//!
//! A request passes the gates of its region and of its tenant, all or none. Among the
//! tenants whose own gates are open, those below their floor go first, then those
//! within their share, then those over it (see [`shares`]); within each rank, by
//! start-time fair queueing (see [`schedule`]).
//!
//! A request is refused at once if it is not expected to get its response before its
//! deadline. One that waits is refused at its turn if it is too late by then.
//!
//! The queue is data under the lane's lock. Time is passed in, and [`Grant`]s leave
//! through channels; the queue knows neither the lane nor its permits.
//!
//! | file | noun |
//! |---|---|
//! | `key`, `tenant`, `tenants` | a tenant's identity, its state, the bounded table of all |
//! | `waiting`, `grant` | the requests that wait, and what they wait for |
//! | `dispatcher` | who goes next: tenants, schedule and region in step |
//! | `schedule` | the order of turns |
//! | `region`, `shares`, `headroom` | the region's slots, and each tenant's part of them |
//! | `forecast`, `smoothed` | when a request will go; durations as they are of late |
//! | `status` | learned quotas on the status page |

mod dispatcher;
mod forecast;
mod grant;
mod headroom;
mod key;
mod region;
mod schedule;
mod shares;
mod smoothed;
mod status;
mod tenant;
mod tenants;
mod waiting;

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) use grant::{AttemptEnd, Grant};
pub(super) use key::TenantKey;

use super::admission::{Priority, Refusal, Scope};
use super::feedback::Feedback;
use super::learning::{LearningEvent, SentAttempt};
use super::policy::{FamilyLimits, QueueLimits};
use super::snapshot::{LaneSnapshot, Learned};
use crate::token::SkillId;
use dispatcher::Dispatcher;
use key::TenantId;
use region::RegionSlots;
use waiting::WaitingRequest;

pub(super) struct Queue {
    limits: FamilyLimits,
    bounds: QueueLimits,
    dispatcher: Dispatcher,
    /// The number of requests that wait, over all tenants.
    waiting: usize,
    next_seq: u64,
}

/// A request that entered.
pub(super) enum Entered {
    Admitted(Grant),
    Queued(Queued),
}

/// A place in the queue. [`Queue::leave`] gives it up.
pub(super) struct Queued {
    tenant: TenantId,
    priority: Priority,
    seq: u64,
    pub(super) reply: oneshot::Receiver<Result<Grant, Refusal>>,
}

/// Something learned of a tenant.
pub(super) struct TenantEvent {
    pub(super) tenant: TenantKey,
    pub(super) event: LearningEvent,
}

impl Queue {
    /// An empty queue, with nothing used of any quota.
    pub(super) fn new(limits: FamilyLimits, bounds: QueueLimits) -> Self {
        let region = RegionSlots::new(limits.region, limits.total_floor());
        Self {
            limits,
            bounds,
            dispatcher: Dispatcher::new(region),
            waiting: 0,
            next_seq: 0,
        }
    }

    /// Admits a request, or queues it if it is expected to be served in time.
    ///
    /// # Errors
    /// It is not expected to be served in time, or the queue is full.
    pub(super) fn enter(
        &mut self,
        skill: Option<&SkillId>,
        priority: Priority,
        now: Instant,
        deadline: Instant,
    ) -> Result<Entered, Refusal> {
        self.grant_due(now);
        let tenant = self.tenant(skill, now);
        if self.dispatcher.may_go(tenant, priority, now) {
            self.dispatcher.note_ease(tenant);
            return Ok(Entered::Admitted(self.dispatcher.take(tenant, now)));
        }
        let expected_at = self.expect(tenant, priority, now, deadline)?;
        if self.waiting >= self.bounds.max_queue {
            self.make_room(tenant, priority, now)?;
        }
        self.dispatcher.note_crowding(tenant, now);
        let (sender, receiver) = oneshot::channel();
        let seq = self.next_seq;
        self.next_seq += 1;
        self.waiting += 1;
        self.dispatcher.tenants[tenant]
            .waiting
            .push(WaitingRequest {
                seq,
                priority,
                expected_at,
                deadline,
                reply: sender,
            });
        self.dispatcher.reindex(tenant, now);
        Ok(Entered::Queued(Queued {
            tenant,
            priority,
            seq,
            reply: receiver,
        }))
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
        self.dispatcher.advance(now);
        let tenant = self.tenant(skill, now);
        if self.dispatcher.may_go(tenant, Priority::New, now) {
            return Ok(());
        }
        self.expect(tenant, Priority::New, now, deadline).map(drop)
    }

    /// Sends grants to all waiting requests that may go. One whose response would
    /// come after its deadline is refused instead, and its slot goes to the next.
    pub(super) fn grant_due(&mut self, now: Instant) {
        self.dispatcher.advance(now);
        while let Some(tenant) = self.dispatcher.pick(now) {
            let own = &mut self.dispatcher.tenants[tenant];
            let Some(waiter) = own.waiting.pop_first() else {
                self.dispatcher.reindex(tenant, now);
                continue;
            };
            self.waiting -= 1;
            let late_by = now.saturating_duration_since(waiter.expected_at);
            own.lateness.note(late_by);
            if now + self.dispatcher.round_trip.likely_max() > waiter.deadline {
                self.dispatcher.reindex(tenant, now);
                let refusal = self.dispatcher.refusal(tenant, waiter.priority, now);
                waiter.reply.send(Err(refusal)).ok();
                continue;
            }
            let grant = self.dispatcher.take(tenant, now);
            if waiter.reply.send(Ok(grant)).is_err() {
                self.end(grant, AttemptEnd::Unsent, now);
            }
        }
    }

    /// When to call [`Queue::grant_due`] next. `None` if nobody waits, or if a
    /// response has to come first.
    pub(super) fn next_grant(&mut self, now: Instant) -> Option<Instant> {
        self.dispatcher.next_turn(now)
    }

    /// Gives up a place in the queue.
    pub(super) fn leave(&mut self, queued: &Queued, now: Instant) {
        let Some(tenant) = self.dispatcher.tenants.get_mut(queued.tenant) else {
            return;
        };
        if tenant.waiting.remove(queued.seq) {
            self.waiting -= 1;
            self.dispatcher.reindex(queued.tenant, now);
        }
    }

    /// The refusal of a request that waited until its deadline.
    pub(super) fn refusal(&self, queued: &Queued, now: Instant) -> Refusal {
        self.dispatcher.refusal(queued.tenant, queued.priority, now)
    }

    /// Takes back what was granted, and learns from the response if there is one.
    /// Returns what is worth a log line.
    pub(super) fn end(
        &mut self,
        grant: Grant,
        end: AttemptEnd,
        now: Instant,
    ) -> Option<TenantEvent> {
        match end {
            AttemptEnd::Unsent => {
                self.dispatcher.refund(grant.tenant, now);
                None
            }
            AttemptEnd::Sent { at, feedback } => {
                let event = feedback.and_then(|feedback| self.learn(grant, at, feedback, now));
                self.dispatcher.start_cooldown(grant.tenant, now);
                event
            }
        }
    }

    /// Applies a new configuration in place.
    pub(super) fn reconfigure(&mut self, limits: FamilyLimits, bounds: QueueLimits, now: Instant) {
        let freed = self
            .dispatcher
            .region
            .configure(limits.region, limits.total_floor(), now);
        for owner in freed.into_iter().flatten() {
            self.dispatcher
                .region
                .release(&mut self.dispatcher.tenants[owner].usage);
        }
        if limits.needs_longer_history_than(&self.limits) {
            self.dispatcher.tenants.forget_history(now);
        }
        self.limits = limits;
        self.bounds = bounds;
        for id in self.dispatcher.tenants.ids() {
            let own = &mut self.dispatcher.tenants[id];
            let limits = self.limits.of(own.key.as_ref());
            own.gate.configure(limits.quota, now);
            if !self.limits.adaptive {
                own.learner.disable(now);
            }
            self.dispatcher
                .region
                .adjust(&mut own.usage, limits.weight, limits.floor);
            self.dispatcher.reindex(id, now);
        }
    }

    pub(super) fn is_adaptive(&self) -> bool {
        self.limits.adaptive
    }

    pub(super) fn is_anyone_waiting(&self) -> bool {
        self.waiting > 0
    }

    pub(super) fn snapshot(&self, now: Instant) -> LaneSnapshot {
        let learners = || self.dispatcher.tenants.iter().map(|tenant| &tenant.learner);
        let learned = learners().filter(|learner| learner.estimate(now).is_some());
        let paused = learners().filter(|learner| learner.paused_until(now).is_some());
        LaneSnapshot {
            quota_region: self.limits.region,
            quota_skill: self.limits.skill,
            in_flight: self.dispatcher.region.in_flight(),
            region_slots_used: self.dispatcher.region.used(),
            queued: self.waiting,
            skills: self.dispatcher.tenants.len(),
            learned_skills: learned.count(),
            paused_skills: paused.count(),
            round_trip_seconds: self.dispatcher.round_trip.mean().as_secs_f64(),
        }
    }

    /// The learned quotas of the skills that were throttled last.
    pub(super) fn learned(&self, now: Instant) -> Vec<Learned> {
        status::learned(&self.dispatcher.tenants, now)
    }

    /// The tenant that a request counts against. In a full table, skills without
    /// limits of their own share the tenant of requests without a skill.
    fn tenant(&mut self, skill: Option<&SkillId>, now: Instant) -> TenantId {
        let key = skill.cloned();
        if let Some(tenant) = self.dispatcher.tenants.find(&key) {
            return tenant;
        }
        let max_skills = self.bounds.max_skills;
        if self.dispatcher.tenants.is_sweep_due(max_skills, now) {
            for usage in self.dispatcher.tenants.sweep(&self.limits, max_skills, now) {
                self.dispatcher.region.remove(usage);
            }
        }
        if self.limits.is_unconfigured(skill) && self.dispatcher.tenants.len() >= max_skills {
            return self.tenant(None, now);
        }
        self.dispatcher.tenants.insert(key, self.limits.of(skill))
    }

    /// Learns from a response to a request sent at `sent_at`.
    fn learn(
        &mut self,
        grant: Grant,
        sent_at: Instant,
        feedback: Feedback,
        now: Instant,
    ) -> Option<TenantEvent> {
        self.dispatcher.round_trip.note(now - sent_at);
        if !self.limits.adaptive {
            return None;
        }
        let own = &mut self.dispatcher.tenants[grant.tenant];
        let attempt = SentAttempt {
            sent_at,
            saturated: grant.saturated,
        };
        let configured = own.gate.quota().map(|quota| quota.per_second());
        let event = own.learner.feedback(attempt, feedback, configured, now)?;
        let tenant = own.key.clone();
        Some(TenantEvent { tenant, event })
    }

    /// When a request of this tenant would go, if its response would then come before
    /// the deadline.
    fn expect(
        &mut self,
        tenant: TenantId,
        priority: Priority,
        now: Instant,
        deadline: Instant,
    ) -> Result<Instant, Refusal> {
        let expected = self
            .dispatcher
            .expected_turn(tenant, priority, now, deadline);
        let own = &mut self.dispatcher.tenants[tenant];
        let reserve = own.retry_reserve(priority, deadline - now);
        let answered_at = expected.at + reserve + self.dispatcher.round_trip.likely_max();
        if answered_at + own.lateness.upper_bound().max(MIN_SLACK) <= deadline {
            return Ok(expected.at);
        }
        if answered_at + MIN_SLACK <= deadline {
            // Only lateness stands against this request, and only requests that wait
            // measure it. It decays here, or nobody would ever wait again.
            own.lateness.note(Duration::ZERO);
        }
        Err(expected.refusal(now))
    }

    /// Makes room in a full queue: refuses the last request of the tenant with most
    /// waiting.
    ///
    /// # Errors
    /// That is the tenant of the new request, which is refused instead.
    fn make_room(
        &mut self,
        tenant: TenantId,
        priority: Priority,
        now: Instant,
    ) -> Result<(), Refusal> {
        let own = self.dispatcher.tenants[tenant].waiting.len();
        let busiest = self.dispatcher.tenants.busiest();
        let busiest =
            busiest.filter(|other| self.dispatcher.tenants[*other].waiting.len() > own + 1);
        let Some(busiest) = busiest else {
            return Err(self.overflow(tenant, priority, now));
        };
        if let Some(last) = self.dispatcher.tenants[busiest].waiting.pop_last() {
            self.waiting -= 1;
            let refusal = self.overflow(busiest, last.priority, now);
            last.reply.send(Err(refusal)).ok();
            self.dispatcher.reindex(busiest, now);
        }
        Ok(())
    }

    /// The refusal of a request for which the queue has no room.
    fn overflow(&self, tenant: TenantId, priority: Priority, now: Instant) -> Refusal {
        Refusal {
            scope: Scope::Queue,
            ..self.dispatcher.refusal(tenant, priority, now)
        }
    }
}

/// How much later than expected a turn may come on a busy machine.
const MIN_SLACK: Duration = Duration::from_millis(20);
