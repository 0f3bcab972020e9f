//! What a request passes for one quota: its slots and its pace.
//!
//! A request passes all of its gates or none: asking [`Gate::readiness`] loses
//! nothing if another gate is closed, and [`Gate::take`] follows at once when all are
//! open. Without a quota a gate is always open and only counts requests in flight.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::definition::Quota;
use super::pace::Pace;
use super::readiness::Readiness;
use super::window::SlotWindow;

/// The gate of one quota. `O` is the owner of a slot, for quotas that are shared.
#[derive(Default)]
pub(crate) struct Gate<O = ()> {
    quota: Option<Quota>,
    window: SlotWindow<O>,
    pace: Option<Pace>,
}

/// What stands between a request and its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueuePosition {
    /// Requests that go first.
    pub(crate) ahead: usize,
    /// Slots that are reserved for others.
    pub(crate) reserved: usize,
}

impl<O: Copy + Default> Gate<O> {
    /// A gate with a quota of which nothing is used yet.
    pub(crate) fn full(quota: Option<Quota>) -> Self {
        Self {
            quota,
            window: SlotWindow::default(),
            pace: quota.and_then(|quota| Pace::full(&quota, Instant::now())),
        }
    }

    /// A gate with a quota that was used up at `since`.
    pub(crate) fn exhausted(quota: Option<Quota>, since: Instant) -> Self {
        let mut gate = Self::full(None);
        gate.configure(quota, since);
        gate
    }

    pub(crate) fn quota(&self) -> Option<Quota> {
        self.quota
    }

    /// Frees the slots whose cool-down has ended, and returns their owners.
    pub(crate) fn release_cooled(&mut self, now: Instant) -> Vec<O> {
        match &self.quota {
            Some(quota) => self.window.release_cooled(quota, now),
            None => Vec::new(),
        }
    }

    /// The number of free slots as of the last [`Gate::release_cooled`]; `None`
    /// without a quota.
    pub(crate) fn free(&self) -> Option<usize> {
        Some(self.window.free(self.quota.as_ref()?))
    }

    /// The number of slots held or cooling down.
    pub(crate) fn used(&self) -> usize {
        self.window.used()
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.window.in_flight()
    }

    /// When a request may pass, as of the last [`Gate::release_cooled`].
    pub(crate) fn readiness(&mut self, now: Instant) -> Readiness {
        let Some(quota) = &self.quota else {
            return Readiness::Now;
        };
        match self.window.next_free(quota, now) {
            None => Readiness::AfterResponse,
            Some(at) if at > now => Readiness::At(at),
            Some(_) => match &mut self.pace {
                Some(pace) => pace.readiness(now),
                None => Readiness::Now,
            },
        }
    }

    /// When the oldest cool-down ends. After [`Gate::release_cooled`], that is later
    /// than now.
    pub(crate) fn next_cooled(&self) -> Option<Instant> {
        self.window.next_cooled(self.quota.as_ref()?)
    }

    /// Lets a request pass. The caller has checked that the gate is ready.
    pub(crate) fn take(&mut self) {
        self.window.take();
        if let Some(pace) = &mut self.pace {
            pace.take();
        }
    }

    /// Takes back the slot and the cell of a request that was not sent.
    pub(crate) fn refund(&mut self) {
        self.window.refund();
        if let Some(pace) = &mut self.pace {
            pace.refund();
        }
    }

    /// Starts the cool-down of the slot of a request that got its response, or is
    /// known to be dead. Returns false if the slot is free at once, since there is
    /// no quota.
    pub(crate) fn start_cooldown(&mut self, owner: O, now: Instant) -> bool {
        if self.quota.is_some() {
            self.window.start_cooldown(owner, now);
        } else {
            self.window.refund();
        }
        self.quota.is_some()
    }

    /// When a request is expected to pass, given the time that a response takes.
    pub(crate) fn expected_at(
        &self,
        now: Instant,
        position: QueuePosition,
        round_trip: Duration,
    ) -> Instant {
        let Some(mut quota) = self.quota else {
            return now;
        };
        let QueuePosition { ahead, reserved } = position;
        let reserved = u32::try_from(reserved).unwrap_or(u32::MAX);
        let rest = quota.requests.get().saturating_sub(reserved);
        quota.requests = NonZeroU32::new(rest).unwrap_or(NonZeroU32::MIN);
        let slot = self.window.expected_at(&quota, now, ahead, round_trip);
        let pace = self.pace.as_ref();
        pace.map_or(slot, |pace| pace.expected_at(now, ahead).max(slot))
    }

    /// Applies a new quota.
    ///
    /// A new quota, or a longer window, needs a history that was not kept. The gate
    /// then counts as exhausted at `since`: earlier requests are unknown and may have
    /// been as many as allowed. Returns the owners of the slots whose cool-down is
    /// forgotten with the old history.
    pub(crate) fn configure(&mut self, new: Option<Quota>, since: Instant) -> Vec<O> {
        let old = std::mem::replace(&mut self.quota, new);
        if old != new {
            self.pace = new.and_then(|new| Pace::exhausted(&new, since));
        }
        match &new {
            None => self.window.release_all(),
            Some(new) if old.is_none_or(|old| old.per < new.per) => self.window.exhaust(new, since),
            Some(_) => Vec::new(),
        }
    }

    /// Follows a learned quota. Its window may become a little longer each time, so
    /// slots that have cooled stay free.
    pub(crate) fn follow(&mut self, new: Option<Quota>, now: Instant) {
        match (self.quota, &new) {
            (Some(old), Some(learned)) if old != *learned => {
                self.quota = new;
                self.pace = Pace::exhausted(learned, now);
            }
            (Some(_), Some(_)) => {}
            _ => drop(self.configure(new, now)),
        }
    }

    /// Whether no slot is held or cooling down.
    pub(crate) fn is_idle(&self) -> bool {
        self.window.used() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn gate(quota: &str) -> (Gate, Instant) {
        let (mut gate, start) = (Gate::default(), Instant::now());
        gate.take();
        gate.configure(Some(quota.parse().unwrap()), start);
        (gate, start)
    }

    #[test]
    fn a_quota_without_history_starts_exhausted() {
        let (mut gate, start) = gate("3/1s");
        assert_eq!(gate.readiness(start), Readiness::At(start + 1000 * MS));
        gate.start_cooldown((), start + 500 * MS);
        gate.release_cooled(start + 1000 * MS);
        assert_eq!(gate.free(), Some(2));
        assert_eq!(gate.readiness(start + 1000 * MS), Readiness::Now);
    }

    #[test]
    fn a_longer_window_starts_exhausted_unless_it_is_learned() {
        let (mut gate, start) = gate("3/100ms");
        gate.release_cooled(start + 100 * MS);
        let now = start + 200 * MS;
        gate.follow(Some("3/1s".parse().unwrap()), now);
        assert_eq!(gate.readiness(now), Readiness::Now);
        gate.configure(Some("3/2s".parse().unwrap()), now);
        assert_eq!(gate.readiness(now), Readiness::At(now + 2000 * MS));
    }

    #[test]
    fn without_a_quota_there_is_no_history() {
        let (mut gate, now) = (Gate::<()>::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(gate.readiness(now), Readiness::Now);
            gate.take();
            assert!(!gate.start_cooldown((), now));
        }
        assert!(gate.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unsent_request_gives_back_its_slot_and_its_cell() {
        let mut quota: Quota = "1/1s".parse().unwrap();
        quota.burst = Some(1.try_into().unwrap());
        let mut gate = Gate::<()>::exhausted(Some(quota), Instant::now());
        tokio::time::advance(1000 * MS).await;
        let now = Instant::now();
        gate.release_cooled(now);
        assert_eq!(gate.readiness(now), Readiness::Now);
        gate.take();
        assert_eq!(gate.readiness(now), Readiness::AfterResponse);
        gate.refund();
        assert_eq!(gate.readiness(now), Readiness::Now);
    }
}
