//! One lane: the calls of one family to one region, behind one lock.
//!
//! A request gets a [`Permit`] at once, or a place in the [`Queue`], or a refusal
//! at once if it is not expected to get through before its deadline. One that
//! leaves gives up its place. The lock is short and never held across an await;
//! grants and refusals are put into their channels under it, but no permit is ever
//! dropped under it, for that takes it again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::adaptive::Notice;
use super::queue::{Entered, Queue, Queued};
use super::tenant::TenantKey;
use super::{
    Answered, Family, FamilyLimits, LaneSnapshot, Learned, Priority, QueueLimits, Refusal, Region,
};
use crate::token::SkillId;

pub(super) struct Lane {
    region: Region,
    family: Family,
    queue: Mutex<Queue>,
    /// Something happened that may let a waiting request go, or changes when.
    changed: Notify,
}

/// The right to make one call. Whoever holds it has a slot of every quota that
/// applies. Dropping it gives them back: at once if nothing was sent, otherwise
/// one window after the drop.
pub struct Permit {
    lane: Arc<Lane>,
    tenant: usize,
    sent_at: Option<Instant>,
    /// The tenant's learned rate was all in use when it was granted.
    pressed: bool,
    /// How long the request waited for it.
    waited: Duration,
    /// Its slots are still to be given back.
    open: bool,
}

impl Lane {
    pub(super) fn new(
        region: Region,
        family: Family,
        config: FamilyLimits,
        limits: QueueLimits,
    ) -> Self {
        Self {
            region,
            family,
            queue: Mutex::new(Queue::new(config, limits)),
            changed: Notify::new(),
        }
    }

    /// Waits for a permit. Cancelling gives up the place in the queue.
    pub(super) async fn admit(
        self: &Arc<Self>,
        skill: Option<&SkillId>,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Permit, Refusal> {
        let asked_at = Instant::now();
        let mut place = match self.enter(skill, priority, asked_at, deadline)? {
            Admission::Permit(permit) => return Ok(permit),
            Admission::Place(place) => place,
        };
        self.changed.notify_one();
        match timeout_at(deadline, &mut place.queued.grant).await {
            Ok(Ok(granted)) => granted.map(|mut permit| {
                permit.waited = asked_at.elapsed();
                permit
            }),
            // The deadline has passed, or the lane has ended.
            _ => {
                let now = Instant::now();
                Err(self.lock().refusal(place.queued.tenant, priority, now))
            }
        }
    }

    /// Whether a request that came now could be served in time.
    pub(super) fn check(&self, skill: Option<&SkillId>, deadline: Instant) -> Result<(), Refusal> {
        self.lock().check(skill, Instant::now(), deadline)
    }

    pub(super) fn learns(&self) -> bool {
        self.lock().learns()
    }

    fn enter(
        self: &Arc<Self>,
        skill: Option<&SkillId>,
        priority: Priority,
        now: Instant,
        deadline: Instant,
    ) -> Result<Admission, Refusal> {
        let mut unclaimed = Vec::new();
        let mut queue = self.lock();
        self.grant(&mut queue, now, &mut unclaimed);
        let entered = queue.enter(skill, priority, now, deadline);
        let admission = entered.map(|entered| match entered {
            Entered::Admitted(tenant) => {
                Admission::Permit(Permit::new(self, tenant, queue.is_pressed(tenant)))
            }
            Entered::Queued(queued) => Admission::Place(Place {
                lane: Arc::clone(self),
                queued,
            }),
        });
        drop(queue);
        drop(unclaimed);
        admission
    }

    /// Hands permits to those whose turn has come, for as long as the lane lives.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let mut unclaimed = Vec::new();
            let next = {
                let mut queue = self.lock();
                let now = Instant::now();
                self.grant(&mut queue, now, &mut unclaimed);
                queue.next_turn(now)
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
    fn grant(
        self: &Arc<Self>,
        queue: &mut Queue,
        now: Instant,
        unclaimed: &mut Vec<Result<Permit, Refusal>>,
    ) {
        while let Some((tenant, waiter)) = queue.next(now) {
            let permit = Permit::new(self, tenant, queue.is_pressed(tenant));
            unclaimed.extend(waiter.grant.send(Ok(permit)).err());
        }
    }

    pub(super) fn reconfigure(&self, config: FamilyLimits, limits: QueueLimits) {
        self.lock().reconfigure(config, limits, Instant::now());
        self.changed.notify_one();
    }

    pub(super) fn snapshot(&self) -> LaneSnapshot {
        self.lock().snapshot(Instant::now())
    }

    pub(super) fn learned(&self) -> Vec<Learned> {
        self.lock().learned(Instant::now())
    }

    /// Ends a permit: takes its slots back, and learns from its answer if there
    /// was one.
    fn close(&self, permit: &Permit, answered: Option<Answered>) {
        let now = Instant::now();
        let mut queue = self.lock();
        let notice = match (permit.sent_at, answered) {
            (Some(sent_at), Some(answered)) => {
                queue.learn(permit.tenant, (sent_at, permit.pressed), answered, now)
            }
            _ => None,
        };
        queue.give_back(permit.tenant, permit.sent_at.is_some(), now);
        let someone_waits = queue.is_anyone_waiting();
        drop(queue);
        if someone_waits {
            self.changed.notify_one();
        }
        if let Some((skill, notice)) = notice {
            self.tell(&skill, notice);
        }
    }

    fn tell(&self, skill: &TenantKey, notice: Notice) {
        let (region, family) = (self.region.name(), self.family.name());
        let skill = skill.as_ref().map(SkillId::as_str);
        match notice {
            Notice::Capped(rate) => tracing::warn!(
                region,
                family,
                skill,
                limit_per_second = rate,
                "Alexa answered 429: its quota for this skill is being learned"
            ),
            Notice::Confirmed(rate) => tracing::info!(
                region,
                family,
                skill,
                limit_per_second = rate,
                line = %line(skill, rate),
                "Alexa's quota for this skill is as good as known; [limits.{family}] may say so"
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while the lock is held, so a poisoned queue is whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rate as a line for the family's section of a configuration file. Whole requests
/// in a longer time keep what a whole number in a second loses.
fn line(skill: Option<&str>, rate: f64) -> String {
    let (seconds, per) = match rate >= 1.0 {
        true => (10.0, "10s"),
        false => (600.0, "10m"),
    };
    let key = match skill {
        Some(skill) => format!("skills.\"{skill}\".quota"),
        None => "skill".to_owned(),
    };
    let requests = (rate * seconds).floor();
    format!("{key} = {{ requests = {requests}, per = \"{per}\" }}")
}

/// What came of asking for a permit.
enum Admission {
    Permit(Permit),
    Place(Place),
}

/// A place in a queue; dropping it gives it up.
struct Place {
    lane: Arc<Lane>,
    queued: Queued,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.lock().leave(&self.queued, Instant::now());
        // The channel is dropped after this, without the lock: it may hold a permit.
    }
}

impl Permit {
    fn new(lane: &Arc<Lane>, tenant: usize, pressed: bool) -> Self {
        Self {
            lane: Arc::clone(lane),
            tenant,
            sent_at: None,
            pressed,
            waited: Duration::ZERO,
            open: true,
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
    pub(crate) fn answered(mut self, answered: Answered) {
        self.open = false;
        self.lane.close(&self, Some(answered));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.open {
            self.lane.close(self, None);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::layers::Sources;

    #[test]
    fn a_request_may_outlive_its_tenant() {
        let limits = QueueLimits {
            max_queue: 1,
            max_skills: 1,
        };
        let queue = Queue::new(FamilyLimits::default(), limits);
        let refusal = queue.refusal(0, Priority::New, Instant::now());
        assert_eq!(refusal.wait, Duration::ZERO);
    }

    #[test]
    fn the_line_for_the_file_is_one_that_the_file_may_hold() {
        let read = |skill, rate| {
            let sources = Sources {
                file: Some((
                    "g.toml",
                    &format!("[limits.profile]\n{}", line(skill, rate)),
                )),
                environment: &[],
            };
            let limits = Config::load(&sources).unwrap().gateway.limits.profile;
            let own = limits
                .skills
                .first_key_value()
                .and_then(|(_, own)| own.quota);
            own.or(limits.skill).unwrap().to_string()
        };
        let skill = Some("amzn1.ask.skill.a");
        assert_eq!(read(skill, 19.57), "195/10s");
        assert_eq!(read(None, 1.0), "10/10s");
        assert_eq!(read(skill, 1.0 / 60.0), "10/10m");
    }
}
