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
//! | `schedule` | the order of turns |
//! | `region`, `shares`, `headroom` | the region's slots, and each tenant's part of them |
//! | `forecast`, `smoothed` | when a request will go; durations as they are of late |
//! | `status` | learned quotas on the status page |

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
use super::quota::Readiness;
use super::snapshot::{LaneSnapshot, Learned};
use crate::token::SkillId;
use forecast::{ExpectedTurn, Forecast};
use key::TenantId;
use region::RegionSlots;
use schedule::{Listing, Schedule};
use shares::Rank;
use smoothed::SmoothedDuration;
use tenants::Tenants;
use waiting::Waiter;

pub(super) struct Queue {
    limits: FamilyLimits,
    bounds: QueueLimits,
    region: RegionSlots,
    tenants: Tenants,
    schedule: Schedule,
    /// The number of requests that wait, over all tenants.
    waiting: usize,
    next_seq: u64,
    /// The time from sending a request to the head of its response.
    round_trip: SmoothedDuration,
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
        Self {
            region: RegionSlots::new(limits.region, limits.total_floor()),
            limits,
            bounds,
            tenants: Tenants::default(),
            schedule: Schedule::default(),
            waiting: 0,
            next_seq: 0,
            round_trip: SmoothedDuration::default(),
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
        if self.may_go(tenant, priority, now) {
            if self.region.is_within_share(&self.tenants[tenant].usage) {
                self.region.note_ease();
            }
            return Ok(Entered::Admitted(self.take(tenant, now)));
        }
        let expected_at = self.expect(tenant, priority, now, deadline)?;
        if self.waiting >= self.bounds.max_queue {
            self.make_room(tenant, priority, now)?;
        }
        self.note_crowding(tenant, now);
        let (sender, receiver) = oneshot::channel();
        let seq = self.next_seq;
        self.next_seq += 1;
        self.waiting += 1;
        self.tenants[tenant].waiting.push(Waiter {
            seq,
            priority,
            expected_at,
            deadline,
            reply: sender,
        });
        self.reindex(tenant, now);
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
        self.advance(now);
        let tenant = self.tenant(skill, now);
        if self.may_go(tenant, Priority::New, now) {
            return Ok(());
        }
        self.expect(tenant, Priority::New, now, deadline).map(drop)
    }

    /// Sends grants to all waiting requests that may go. One whose response would
    /// come after its deadline is refused instead, and its slot goes to the next.
    pub(super) fn grant_due(&mut self, now: Instant) {
        self.advance(now);
        while let Some(tenant) = self.pick(now) {
            let own = &mut self.tenants[tenant];
            let Some(waiter) = own.waiting.pop_first() else {
                self.reindex(tenant, now);
                continue;
            };
            self.waiting -= 1;
            let late_by = now.saturating_duration_since(waiter.expected_at);
            own.lateness.note(late_by);
            if now + self.round_trip.likely_max() > waiter.deadline {
                self.reindex(tenant, now);
                let refusal = self.refusal_of(tenant, waiter.priority, now);
                waiter.reply.send(Err(refusal)).ok();
                continue;
            }
            let grant = self.take(tenant, now);
            if waiter.reply.send(Ok(grant)).is_err() {
                self.end(grant, AttemptEnd::Unsent, now);
            }
        }
    }

    /// When to call [`Queue::grant_due`] next. `None` if nobody waits, or if a
    /// response has to come first.
    pub(super) fn next_grant(&mut self, now: Instant) -> Option<Instant> {
        let unblocked = self.schedule.next_unblocked();
        let ready = if self.schedule.is_anyone_ready() {
            match self.region.readiness(now) {
                Readiness::At(at) => Some(at),
                // The free slots are reserved for tenants that are not waiting.
                Readiness::Now => self.region.next_cooled(),
                Readiness::AfterResponse => None,
            }
        } else {
            None
        };
        unblocked.into_iter().chain(ready).min()
    }

    /// Gives up a place in the queue.
    pub(super) fn leave(&mut self, queued: &Queued, now: Instant) {
        let Some(tenant) = self.tenants.get_mut(queued.tenant) else {
            return;
        };
        if tenant.waiting.remove(queued.seq) {
            self.waiting -= 1;
            self.reindex(queued.tenant, now);
        }
    }

    /// The refusal of a request that waited until its deadline.
    pub(super) fn refusal(&self, queued: &Queued, now: Instant) -> Refusal {
        self.refusal_of(queued.tenant, queued.priority, now)
    }

    /// Takes back what was granted, and learns from the response if there is one.
    /// Returns what is worth a log line.
    pub(super) fn end(
        &mut self,
        grant: Grant,
        end: AttemptEnd,
        now: Instant,
    ) -> Option<TenantEvent> {
        let mut event = None;
        match end {
            AttemptEnd::Unsent => {
                let own = &mut self.tenants[grant.tenant];
                own.gate.refund();
                own.learner.withdrawn();
                self.region.refund(&mut own.usage);
            }
            AttemptEnd::Sent { at, feedback } => {
                event = feedback.and_then(|feedback| self.learn(grant, at, feedback, now));
                let own = &mut self.tenants[grant.tenant];
                own.gate.start_cooldown((), now);
                own.learner.ended(now);
                self.region
                    .start_cooldown(grant.tenant, &mut own.usage, now);
            }
        }
        self.reindex(grant.tenant, now);
        event
    }

    /// Applies a new configuration in place.
    pub(super) fn reconfigure(&mut self, limits: FamilyLimits, bounds: QueueLimits, now: Instant) {
        let freed = self
            .region
            .configure(limits.region, limits.total_floor(), now);
        for owner in freed.into_iter().flatten() {
            self.region.release(&mut self.tenants[owner].usage);
        }
        if limits.needs_longer_history_than(&self.limits) {
            self.tenants.forget_history(now);
        }
        self.limits = limits;
        self.bounds = bounds;
        for id in self.tenants.ids() {
            let own = &mut self.tenants[id];
            let limits = self.limits.of(own.key.as_ref());
            own.gate.configure(limits.quota, now);
            if !self.limits.adaptive {
                own.learner.disable(now);
            }
            self.region
                .adjust(&mut own.usage, limits.weight, limits.floor);
            self.reindex(id, now);
        }
    }

    pub(super) fn is_adaptive(&self) -> bool {
        self.limits.adaptive
    }

    pub(super) fn is_anyone_waiting(&self) -> bool {
        self.waiting > 0
    }

    pub(super) fn snapshot(&self, now: Instant) -> LaneSnapshot {
        let learners = || self.tenants.iter().map(|tenant| &tenant.learner);
        let learned = learners().filter(|learner| learner.estimate(now).is_some());
        let paused = learners().filter(|learner| learner.paused_until(now).is_some());
        LaneSnapshot {
            quota_region: self.limits.region,
            quota_skill: self.limits.skill,
            in_flight: self.region.in_flight(),
            region_slots_used: self.region.used(),
            queued: self.waiting,
            skills: self.tenants.len(),
            learned_skills: learned.count(),
            paused_skills: paused.count(),
            round_trip_seconds: self.round_trip.mean().as_secs_f64(),
        }
    }

    /// The learned quotas of the skills that were throttled last.
    pub(super) fn learned(&self, now: Instant) -> Vec<Learned> {
        status::learned(&self.tenants, now)
    }

    /// The tenant that a request counts against. In a full table, skills without
    /// limits of their own share the tenant of requests without a skill.
    fn tenant(&mut self, skill: Option<&SkillId>, now: Instant) -> TenantId {
        let key = skill.cloned();
        if let Some(tenant) = self.tenants.find(&key) {
            return tenant;
        }
        let max_skills = self.bounds.max_skills;
        if self.tenants.is_sweep_due(max_skills, now) {
            for usage in self.tenants.sweep(&self.limits, max_skills, now) {
                self.region.remove(usage);
            }
        }
        if self.limits.is_unconfigured(skill) && self.tenants.len() >= max_skills {
            return self.tenant(None, now);
        }
        self.tenants.insert(key, self.limits.of(skill))
    }

    /// Whether a request that came now may go at once. The caller has let all others
    /// go that may.
    fn may_go(&mut self, tenant: TenantId, priority: Priority, now: Instant) -> bool {
        let own = &mut self.tenants[tenant];
        own.waiting.ahead(priority) == 0
            && own.readiness(now) == Readiness::Now
            && self.region.readiness(now) == Readiness::Now
            && self.region.allows(&own.usage)
    }

    /// The tenant that goes next, if one may.
    fn pick(&mut self, now: Instant) -> Option<TenantId> {
        if !self.schedule.is_anyone_ready() || self.region.readiness(now) != Readiness::Now {
            return None;
        }
        let mut candidates = self.schedule.ready().take(MAX_CANDIDATES);
        candidates.find(|tenant| self.region.allows(&self.tenants[*tenant].usage))
    }

    /// Lets one request of a tenant go.
    fn take(&mut self, tenant: TenantId, now: Instant) -> Grant {
        let own = &mut self.tenants[tenant];
        own.gate.take();
        own.learner.admitted();
        own.last_admitted = Some(now);
        self.region.take(&mut own.usage, now);
        own.start_tag = self.schedule.advance(own.start_tag, own.usage.weight());
        self.reindex(tenant, now);
        let saturated = self.tenants[tenant].learner.is_saturated();
        Grant { tenant, saturated }
    }

    /// Learns from a response to a request sent at `sent_at`.
    fn learn(
        &mut self,
        grant: Grant,
        sent_at: Instant,
        feedback: Feedback,
        now: Instant,
    ) -> Option<TenantEvent> {
        self.round_trip.note(now - sent_at);
        if !self.limits.adaptive {
            return None;
        }
        let own = &mut self.tenants[grant.tenant];
        let attempt = SentAttempt {
            sent_at,
            saturated: grant.saturated,
        };
        let configured = own.gate.quota().map(|quota| quota.per_second());
        let event = own.learner.feedback(attempt, feedback, configured, now)?;
        let tenant = own.key.clone();
        Some(TenantEvent { tenant, event })
    }

    /// Brings the queue up to `now`: frees slots, unblocks tenants, expires activity.
    fn advance(&mut self, now: Instant) {
        let freed = self.region.release_cooled(now);
        for owner in freed.iter().flatten() {
            self.region.release(&mut self.tenants[*owner].usage);
        }
        for owner in freed.into_iter().flatten() {
            self.reindex(owner, now);
        }
        while let Some(tenant) = self.schedule.unblocked(now) {
            self.reindex(tenant, now);
        }
        if self.region.is_expiry_due(now) {
            for tenant in self.tenants.iter_mut() {
                self.region.expire(&mut tenant.usage, now);
            }
        }
    }

    /// Lists a tenant anew after a change of its state.
    fn reindex(&mut self, tenant: TenantId, now: Instant) {
        let own = &mut self.tenants[tenant];
        self.schedule.remove(tenant, own.listing);
        own.listing = if own.waiting.is_empty() {
            Listing::Unlisted
        } else {
            match own.readiness(now) {
                Readiness::Now => {
                    own.start_tag = self.schedule.effective_tag(own.start_tag);
                    Listing::Ready {
                        rank: self.region.rank(&own.usage),
                        start_tag: own.start_tag,
                    }
                }
                Readiness::At(at) => Listing::Blocked(at),
                Readiness::AfterResponse => Listing::Unlisted,
            }
        };
        self.schedule.insert(tenant, own.listing);
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
        let expected = self.expected_turn(tenant, priority, now, deadline);
        let own = &mut self.tenants[tenant];
        let reserve = own.retry_reserve(priority, deadline - now);
        let answered_at = expected.at + reserve + self.round_trip.likely_max();
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

    /// The refusal of a request whose turn comes too late. A request may outlive its
    /// tenant, if it was taken out at its deadline and the tenant then evicted.
    fn refusal_of(&self, tenant: TenantId, priority: Priority, now: Instant) -> Refusal {
        if !self.tenants.contains(tenant) {
            return Refusal {
                wait: Duration::ZERO,
                scope: Scope::Skill,
            };
        }
        self.expected_turn(tenant, priority, now, now + REFUSAL_HORIZON)
            .refusal(now)
    }

    fn expected_turn(
        &self,
        tenant: TenantId,
        priority: Priority,
        now: Instant,
        until: Instant,
    ) -> ExpectedTurn {
        let forecast = Forecast {
            tenants: &self.tenants,
            schedule: &self.schedule,
            region: &self.region,
            round_trip: self.round_trip.mean(),
        };
        forecast.expected_turn(tenant, priority, now, until)
    }

    /// Notes whether a tenant within its share, with nothing waiting, has to wait for
    /// the region behind a tenant over its share.
    fn note_crowding(&mut self, tenant: TenantId, now: Instant) {
        let own = &mut self.tenants[tenant];
        if own.waiting.is_empty()
            && self.schedule.last_rank() == Some(Rank::OverShare)
            && self.region.is_within_share(&own.usage)
            && own.readiness(now) == Readiness::Now
        {
            self.region.note_crowding();
        }
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
        let own = self.tenants[tenant].waiting.len();
        let busiest = self.tenants.busiest();
        let busiest = busiest.filter(|other| self.tenants[*other].waiting.len() > own + 1);
        let Some(busiest) = busiest else {
            return Err(self.overflow(tenant, priority, now));
        };
        if let Some(last) = self.tenants[busiest].waiting.pop_last() {
            self.waiting -= 1;
            let refusal = self.overflow(busiest, last.priority, now);
            last.reply.send(Err(refusal)).ok();
            self.reindex(busiest, now);
        }
        Ok(())
    }

    /// The refusal of a request for which the queue has no room.
    fn overflow(&self, tenant: TenantId, priority: Priority, now: Instant) -> Refusal {
        Refusal {
            scope: Scope::Queue,
            ..self.refusal_of(tenant, priority, now)
        }
    }
}

/// How many tenants are asked whether the region has a slot for them. If the first 64
/// have to leave the free slots to others, so have those behind them: tenants that
/// need not come first.
const MAX_CANDIDATES: usize = 64;

/// How much later than expected a turn may come on a busy machine.
const MIN_SLACK: Duration = Duration::from_millis(20);

/// How far ahead the forecast of a late refusal looks.
const REFUSAL_HORIZON: Duration = Duration::from_secs(8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_outlive_its_tenant() {
        let bounds = QueueLimits {
            max_queue: 1,
            max_skills: 1,
        };
        let queue = Queue::new(FamilyLimits::default(), bounds);
        let refusal = queue.refusal_of(TenantId(0), Priority::New, Instant::now());
        assert_eq!(refusal.wait, Duration::ZERO);
    }
}
