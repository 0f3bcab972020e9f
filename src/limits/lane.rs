//! One lane: the calls of one family to one region, behind one lock.
//!
//! The lane adds to its [`Queue`] what data cannot do: the lock, the clock, waiting,
//! and a task that wakes at the next turn. The lock is short and never held across an
//! await. A request that leaves gives up its place, or the grant that it has not
//! received yet.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::admission::{Priority, Refusal};
use super::announce::announce;
use super::family::Family;
use super::policy::{FamilyLimits, QueueLimits};
use super::queue::{AttemptEnd, Entered, Grant, Queue, Queued};
use super::snapshot::{LaneSnapshot, Learned};
use crate::region::Region;
use crate::token::SkillId;

pub(super) struct Lane {
    region: Region,
    family: Family,
    queue: Mutex<Queue>,
    /// Wakes the task: a waiting request may be able to go, or at another time.
    changed: Notify,
}

/// A request that may go. Its grant has to be ended by [`Lane::end`].
#[must_use]
pub(super) struct Admission {
    pub(super) grant: Grant,
    pub(super) waited: Duration,
}

impl Lane {
    pub(super) fn new(
        region: Region,
        family: Family,
        limits: FamilyLimits,
        bounds: QueueLimits,
    ) -> Self {
        Self {
            region,
            family,
            queue: Mutex::new(Queue::new(limits, bounds)),
            changed: Notify::new(),
        }
    }

    /// Waits for a grant. Cancelling gives up the place in the queue.
    pub(super) async fn admit(
        &self,
        skill: Option<&SkillId>,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Admission, Refusal> {
        let asked_at = Instant::now();
        let entered = self
            .queue
            .lock()
            .enter(skill, priority, asked_at, deadline)?;
        let queued = match entered {
            Entered::Admitted(grant) => {
                let waited = Duration::ZERO;
                return Ok(Admission { grant, waited });
            }
            Entered::Queued(queued) => queued,
        };
        self.changed.notify_one();
        let mut place = Place { lane: self, queued };
        match timeout_at(deadline, &mut place.queued.reply).await {
            Ok(Ok(reply)) => reply.map(|grant| Admission {
                grant,
                waited: asked_at.elapsed(),
            }),
            // The deadline has passed, or the queue has ended.
            _ => Err(self.queue.lock().refusal(&place.queued, Instant::now())),
        }
    }

    /// Whether a request that came now could be served in time.
    pub(super) fn check(&self, skill: Option<&SkillId>, deadline: Instant) -> Result<(), Refusal> {
        self.queue.lock().check(skill, Instant::now(), deadline)
    }

    pub(super) fn is_adaptive(&self) -> bool {
        self.queue.lock().is_adaptive()
    }

    /// Ends an attempt: takes its slots back, and learns from its response.
    pub(super) fn end(&self, grant: Grant, end: AttemptEnd) {
        let now = Instant::now();
        let mut queue = self.queue.lock();
        let event = queue.end(grant, end, now);
        let is_anyone_waiting = queue.is_anyone_waiting();
        drop(queue);
        if is_anyone_waiting {
            self.changed.notify_one();
        }
        if let Some(event) = event {
            announce(self.region, self.family, &event);
        }
    }

    /// Grants to waiting requests as their turns come. Never ends by itself.
    pub(super) async fn run(&self) {
        loop {
            let next = {
                let mut queue = self.queue.lock();
                let now = Instant::now();
                queue.grant_due(now);
                queue.next_grant(now)
            };
            match next {
                Some(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = sleep_until(at) => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// Applies a new configuration in place.
    pub(super) fn reconfigure(&self, limits: FamilyLimits, bounds: QueueLimits) {
        self.queue
            .lock()
            .reconfigure(limits, bounds, Instant::now());
        self.changed.notify_one();
    }

    pub(super) fn snapshot(&self) -> LaneSnapshot {
        self.queue.lock().snapshot(Instant::now())
    }

    pub(super) fn learned(&self) -> Vec<Learned> {
        self.queue.lock().learned(Instant::now())
    }
}

/// A place in a queue; dropping it gives it up.
struct Place<'a> {
    lane: &'a Lane,
    queued: Queued,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.lane.queue.lock().leave(&self.queued, Instant::now());
        // From here on nobody can reply; a grant may have been sent before.
        if let Ok(Ok(grant)) = self.queued.reply.try_recv() {
            self.lane.end(grant, AttemptEnd::Unsent);
        }
    }
}
