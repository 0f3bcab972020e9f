//! The slots of one quota, and their cool-down.
//!
//! Guarantees that a slot is used at most once in any window; see the [parent
//! module](super) for the argument. Pure: time is passed in. The quota is passed in
//! as well, so that a reload resizes it in place without losing the history.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::definition::Quota;

/// The slots of one quota that are held or cooling down. `O` is the owner of a
/// slot, for quotas that are shared; slots without a known owner have the default.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotWindow<O = ()> {
    /// Slots held by requests in flight.
    in_flight: u32,
    /// Slots that are cooling down, oldest first.
    cooling: VecDeque<CoolingSlot<O>>,
}

/// A slot that becomes free one window after `since`.
#[derive(Clone, Copy, Debug)]
struct CoolingSlot<O> {
    since: Instant,
    owner: O,
}

impl<O: Copy + Default> SlotWindow<O> {
    /// The number of free slots, as of the last [`SlotWindow::release_cooled`].
    pub(super) fn free(&self, quota: &Quota) -> usize {
        quota.slots().saturating_sub(self.used())
    }

    /// The number of slots held or cooling down.
    pub(super) fn used(&self) -> usize {
        self.in_flight as usize + self.cooling.len()
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Takes a slot. The caller has checked that one is free.
    pub(super) fn take(&mut self) {
        self.in_flight += 1;
    }

    /// Frees the slot of a request that was never sent.
    pub(super) fn refund(&mut self) {
        self.in_flight -= 1;
    }

    /// Starts the cool-down of a slot whose request got its response, or is known to
    /// be dead, at `now`.
    pub(super) fn start_cooldown(&mut self, owner: O, now: Instant) {
        self.in_flight -= 1;
        self.cooling.push_back(CoolingSlot { since: now, owner });
    }

    /// Frees the slots whose cool-down has ended by `now`, and returns their owners.
    pub(super) fn release_cooled(&mut self, quota: &Quota, now: Instant) -> Vec<O> {
        let cooling = self.cooling.iter();
        let cooled = cooling.take_while(|slot| slot.since + quota.per <= now);
        let cooled = cooled.count();
        let released = self.cooling.drain(..cooled);
        released.map(|slot| slot.owner).collect()
    }

    /// Frees all slots that are cooling down, and returns their owners.
    pub(super) fn release_all(&mut self) -> Vec<O> {
        self.cooling.drain(..).map(|slot| slot.owner).collect()
    }

    /// Makes every slot that is not held cool down from `since` on, without an
    /// owner. Returns the owners of those that were cooling down before.
    pub(super) fn exhaust(&mut self, quota: &Quota, since: Instant) -> Vec<O> {
        let released = self.release_all();
        let cooling = quota.slots().saturating_sub(self.in_flight as usize);
        let owner = O::default();
        self.cooling.resize(cooling, CoolingSlot { since, owner });
        released
    }

    /// When the oldest cool-down ends, relative to no request in particular. `None`
    /// if no slot is cooling down.
    pub(super) fn next_cooled(&self, quota: &Quota) -> Option<Instant> {
        self.cooling.front().map(|slot| slot.since + quota.per)
    }

    /// When a slot becomes free; `now` if one is. `None` if that depends on
    /// responses that are outstanding.
    pub(super) fn next_free(&self, quota: &Quota, now: Instant) -> Option<Instant> {
        let excess = (self.used() + 1).saturating_sub(quota.slots());
        let Some(last) = excess.checked_sub(1) else {
            return Some(now);
        };
        self.cooling.get(last).map(|slot| slot.since + quota.per)
    }

    /// When the request with `ahead` others before it is expected to get a slot,
    /// given the time that a response takes.
    pub(super) fn expected_at(
        &self,
        quota: &Quota,
        now: Instant,
        ahead: usize,
        round_trip: Duration,
    ) -> Instant {
        let slots = quota.slots();
        // One slot for each request ahead, and one for this.
        let needed = (self.used() + ahead + 1).saturating_sub(slots);
        if needed == 0 {
            return now;
        }
        // Slots become free in this order: the cooling ones, those in flight, then
        // the ones taken from now on. Each of the last `slots` of them becomes free
        // again every cycle.
        let cycle = quota.per.saturating_add(round_trip);
        let known = self.used().max(slots);
        let nth = |n: usize| match self.cooling.get(n) {
            Some(slot) => (slot.since + quota.per).max(now),
            None => now + cycle,
        };
        match (needed - 1).checked_sub(known) {
            None => nth(needed - 1),
            Some(beyond) => {
                let rounds = u32::try_from(beyond / slots + 1).unwrap_or(u32::MAX);
                nth(known - slots + beyond % slots) + cycle.saturating_mul(rounds)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn quota(requests: u32, per: Duration) -> Quota {
        Quota {
            requests: requests.try_into().unwrap(),
            per,
            burst: None,
        }
    }

    #[test]
    fn a_slot_is_free_one_window_after_the_response() {
        let (quota, start) = (quota(2, 1000 * MS), Instant::now());
        let mut window = SlotWindow::default();
        window.take();
        window.take();
        assert_eq!(window.free(&quota), 0);
        assert_eq!(window.next_free(&quota, start), None);
        window.start_cooldown("mine", start + 60 * MS);
        assert_eq!(window.next_free(&quota, start), Some(start + 1060 * MS));
        let released = window.release_cooled(&quota, start + 1059 * MS);
        assert_eq!((window.free(&quota), released.len()), (0, 0));
        let released = window.release_cooled(&quota, start + 1060 * MS);
        assert_eq!((window.free(&quota), released), (1, vec!["mine"]));
    }

    #[test]
    fn the_slot_of_an_unsent_request_is_free_at_once() {
        let quota = quota(1, 1000 * MS);
        let mut window = SlotWindow::<()>::default();
        window.take();
        window.refund();
        assert_eq!(window.free(&quota), 1);
    }

    #[test]
    fn a_smaller_quota_waits_until_the_excess_has_cooled() {
        let (small, start) = (quota(2, 1000 * MS), Instant::now());
        let mut window = SlotWindow::default();
        for n in 0..4 {
            window.take();
            window.start_cooldown((), start + n * MS);
        }
        assert_eq!(
            window.next_free(&small, start + 4 * MS),
            Some(start + 1002 * MS)
        );
        let expected = |ahead| window.expected_at(&small, start, ahead, Duration::ZERO) - start;
        assert_eq!(
            [0, 1, 2, 3].map(expected),
            [1002, 1003, 2002, 2003].map(|ms| ms * MS)
        );
        window.release_cooled(&small, start + 1001 * MS);
        assert_eq!(window.free(&small), 0);
        window.release_cooled(&small, start + 1002 * MS);
        assert_eq!(window.free(&small), 1);
    }

    #[test]
    fn the_expected_time_counts_requests_ahead_and_whole_cycles() {
        let (quota, start) = (quota(2, 1000 * MS), Instant::now());
        let mut window = SlotWindow::default();
        window.take();
        window.start_cooldown((), start);
        let now = start + 100 * MS;
        let expected = |ahead| window.expected_at(&quota, now, ahead, 60 * MS) - start;
        assert_eq!(expected(0), 100 * MS, "one slot is free now");
        assert_eq!(expected(1), 1000 * MS, "the first cool-down ends");
        assert_eq!(expected(2), 1160 * MS, "the slot taken now is free again");
        assert_eq!(expected(3), 1000 * MS + 1060 * MS);
    }

    #[test]
    fn exhausted_slots_have_no_owner_and_cool_together() {
        let (quota, start) = (quota(3, 1000 * MS), Instant::now());
        let mut window = SlotWindow::default();
        window.take();
        window.take();
        window.start_cooldown(Some(7), start);
        let released = window.exhaust(&quota, start);
        assert_eq!((window.free(&quota), released), (0, vec![Some(7)]));
        assert_eq!(window.next_cooled(&quota), Some(start + 1000 * MS));
        let released = window.release_cooled(&quota, start + 1000 * MS);
        assert_eq!(released, [None, None]);
        assert_eq!(window.free(&quota), 2);
    }
}
