//! One quota as it is kept: the slots of its [`Window`], and the [`Pace`] within.
//!
//! A request passes all of its gates or none: [`Gate::turn`] takes nothing that
//! is lost if another gate is closed, and [`Gate::take`] follows at once when all
//! are open. Without a quota a gate is always open and remembers only how many
//! requests are on their way.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use super::quota::Quota;
use super::window::Window;

/// When a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Now.
    Now,
    /// Not before this moment.
    At(Instant),
    /// Not before an answer, and nobody knows when that comes.
    AfterAnAnswer,
}

impl Turn {
    /// Both turns have to have come.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, other) => other,
            (own, Self::Now) => own,
            (Self::At(own), Self::At(other)) => Self::At(own.max(other)),
            _ => Self::AfterAnAnswer,
        }
    }
}

/// The gate of one quota. `O` tells whose a slot is, where that matters.
pub(super) struct Gate<O = ()> {
    quota: Option<Quota>,
    window: Window<O>,
    pace: Option<Pace>,
}

impl<O: Copy> Gate<O> {
    /// Always open until it gets a quota.
    pub(super) fn new() -> Self {
        Self {
            quota: None,
            window: Window::default(),
            pace: None,
        }
    }

    /// Gives a gate its first quota, with nothing used of it.
    pub(super) fn start(&mut self, quota: Option<Quota>) {
        self.quota = quota;
        self.pace = quota.and_then(|quota| Pace::fresh(&quota, Instant::now()));
    }

    pub(super) fn quota(&self) -> Option<Quota> {
        self.quota
    }

    /// Frees the slots that have cooled; `freed` learns whose they were.
    pub(super) fn cool(&mut self, now: Instant, freed: impl FnMut(O)) {
        if let Some(quota) = &self.quota {
            self.window.cool(quota, now, freed);
        }
    }

    /// How many slots are free, of those that have cooled; `None` without a quota.
    pub(super) fn free(&self) -> Option<usize> {
        Some(self.window.free(self.quota.as_ref()?))
    }

    /// How many slots are held or cooling.
    pub(super) fn used(&self) -> usize {
        self.window.used()
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.window.in_flight()
    }

    /// When a request may pass, of what has cooled by now.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        let Some(quota) = &self.quota else {
            return Turn::Now;
        };
        match self.window.next_free(quota, now) {
            None => Turn::AfterAnAnswer,
            Some(at) if at > now => Turn::At(at),
            Some(_) => match self.pace.as_mut().map(|pace| pace.ready(now)) {
                Some(Err(at)) => Turn::At(at),
                _ => Turn::Now,
            },
        }
    }

    /// When the slot cools that is next to; after `now`, for what had cooled by
    /// then is free already.
    pub(super) fn next_cooled(&self) -> Option<Instant> {
        Some(self.window.first_returned()? + self.quota.as_ref()?.per)
    }

    /// Lets a request pass. The caller has seen that it is its turn.
    pub(super) fn take(&mut self) {
        self.window.take();
        if let Some(pace) = &mut self.pace {
            pace.spend();
        }
    }

    /// Takes back what a request had that was not sent.
    pub(super) fn give_back_unsent(&mut self) {
        self.window.give_back_unsent();
        if let Some(pace) = &mut self.pace {
            pace.refund();
        }
    }

    /// Lets the slot of a request cool that was answered, or is known to be dead.
    /// Answers whether it does, or is free at once for there is no quota.
    pub(super) fn give_back_sent(&mut self, owner: O, now: Instant) -> bool {
        match self.quota {
            Some(_) => self.window.give_back_sent(owner, now),
            None => self.window.give_back_unsent(),
        }
        self.quota.is_some()
    }

    /// When the request that has `ahead` others before it may be expected to pass,
    /// if answers take `round_trip` and `kept` slots are for others only.
    pub(super) fn expected(
        &self,
        now: Instant,
        ahead: usize,
        kept: usize,
        round_trip: Duration,
    ) -> Instant {
        let Some(mut quota) = self.quota else {
            return now;
        };
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        let rest = quota.requests.get().saturating_sub(kept);
        quota.requests = NonZeroU32::new(rest).unwrap_or(NonZeroU32::MIN);
        let slot = self.window.expected(&quota, now, ahead, round_trip);
        let pace = self.pace.as_ref();
        pace.map_or(slot, |pace| pace.expected(now, ahead).max(slot))
    }

    /// Adapts to a new quota. Where it needs a history that was not kept (there
    /// was no quota, or a shorter window), it starts spent since `since`: what was
    /// sent before is not known and is taken to have been all that is allowed.
    /// `freed` learns whose slots are forgotten with the old history.
    pub(super) fn set_quota(
        &mut self,
        new: Option<Quota>,
        since: Instant,
        nobody: O,
        freed: impl FnMut(O),
    ) {
        let old = std::mem::replace(&mut self.quota, new);
        match &new {
            None => self.window.clear(freed),
            Some(new) if old.is_none_or(|old| old.per < new.per) => {
                self.window.spend(new, since, nobody, freed);
            }
            Some(_) => {}
        }
        if old != new {
            self.pace = new.as_ref().and_then(|new| Pace::spent(new, since));
        }
    }

    /// Follows an estimate, whose window may be a little longer from now on: what
    /// has cooled is not cooled again.
    pub(super) fn follow(&mut self, new: Option<Quota>, now: Instant, nobody: O) {
        match (self.quota, &new) {
            (Some(old), Some(estimate)) if old != *estimate => {
                self.quota = new;
                self.pace = Pace::spent(estimate, now);
            }
            (Some(_), Some(_)) => {}
            _ => self.set_quota(new, now, nobody, drop),
        }
    }

    /// Whether nothing would be lost by forgetting this gate.
    pub(super) fn is_idle(&self) -> bool {
        self.window.used() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn gate(quota: &str) -> (Gate, Instant) {
        let (mut gate, start) = (Gate::new(), Instant::now());
        gate.take();
        gate.set_quota(Some(quota.parse().unwrap()), start, (), drop);
        (gate, start)
    }

    #[test]
    fn a_quota_without_history_starts_spent() {
        let (mut gate, start) = gate("3/1s");
        assert_eq!(gate.turn(start), Turn::At(start + 1000 * MS));
        gate.give_back_sent((), start + 500 * MS);
        gate.cool(start + 1000 * MS, drop);
        assert_eq!(gate.free(), Some(2));
        assert_eq!(gate.turn(start + 1000 * MS), Turn::Now);
    }

    #[test]
    fn a_longer_window_starts_spent_and_an_estimate_does_not() {
        let (mut gate, start) = gate("3/100ms");
        gate.cool(start + 100 * MS, drop);
        let now = start + 200 * MS;
        gate.follow(Some("3/1s".parse().unwrap()), now, ());
        assert_eq!(gate.turn(now), Turn::Now);
        gate.set_quota(Some("3/2s".parse().unwrap()), now, (), drop);
        assert_eq!(gate.turn(now), Turn::At(now + 2000 * MS));
    }

    #[test]
    fn without_a_quota_there_is_no_history() {
        let (mut gate, now) = (Gate::<()>::new(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(gate.turn(now), Turn::Now);
            gate.take();
            assert!(!gate.give_back_sent((), now));
        }
        assert!(gate.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_not_sent_gives_back_its_slot_and_its_cell() {
        let mut quota: Quota = "1/1s".parse().unwrap();
        quota.burst = Some(1.try_into().unwrap());
        let mut gate = Gate::<()>::new();
        gate.set_quota(Some(quota), Instant::now(), (), drop);
        tokio::time::advance(1000 * MS).await;
        let now = Instant::now();
        gate.cool(now, drop);
        assert_eq!(gate.turn(now), Turn::Now);
        gate.take();
        assert_eq!(gate.turn(now), Turn::AfterAnAnswer);
        gate.give_back_unsent();
        assert_eq!(gate.turn(now), Turn::Now);
    }

    #[test]
    fn two_turns_have_come_when_the_later_has() {
        let (a, b) = (Instant::now(), Instant::now() + MS);
        assert_eq!(Turn::At(a).and(Turn::At(b)), Turn::At(b));
        assert_eq!(Turn::Now.and(Turn::At(b)), Turn::At(b));
        assert_eq!(Turn::At(b).and(Turn::AfterAnAnswer), Turn::AfterAnAnswer);
        assert_eq!(Turn::Now.and(Turn::Now), Turn::Now);
    }
}
