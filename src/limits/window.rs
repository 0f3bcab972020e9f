//! The slots of one quota: at most L requests in any window W, kept strictly.
//!
//! A token bucket does not keep such a quota: with burst b and rate r, a window
//! can see b + r·W. Here a quota has L slots. A request holds one from before it
//! is sent, and gives it back W after its answer was received. The upstream
//! stamps a request somewhere in between, so two uses of one slot are at least W
//! apart on the upstream's clock, whatever the network does and whether its
//! window is fixed or sliding. The price is a rate of L/(W + round trip).
//!
//! Pure: time is passed in. The quota is passed in as well, so that a reload
//! resizes it in place and nothing is forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::quota::Quota;

/// What is known about the slots of one quota. `O` tells whose a slot is, where
/// that matters.
#[derive(Clone, Debug)]
pub struct Window<O = ()> {
    /// How many slots are held by requests on their way.
    in_flight: u32,
    /// When answers were received whose slots are still cooling; ascending.
    returned: VecDeque<(Instant, O)>,
}

impl<O> Default for Window<O> {
    fn default() -> Self {
        Self {
            in_flight: 0,
            returned: VecDeque::new(),
        }
    }
}

impl<O: Copy> Window<O> {
    /// How many slots are free, of those that have cooled by the last
    /// [`Window::cool`].
    #[must_use]
    pub fn free(&self, quota: &Quota) -> usize {
        (quota.requests.get() as usize).saturating_sub(self.used())
    }

    /// Takes a slot. The caller has seen that one is free.
    pub fn take(&mut self) {
        self.in_flight += 1;
    }

    /// Gives a slot back whose request was never sent: it is free at once.
    pub fn give_back_unsent(&mut self) {
        self.in_flight -= 1;
    }

    /// Gives a slot back whose request was answered, or is known to be dead, at
    /// `now`: it is free one window later.
    pub fn give_back_sent(&mut self, owner: O, now: Instant) {
        self.in_flight -= 1;
        self.returned.push_back((now, owner));
    }

    /// Lets every slot that is not held start to cool at `since`, as if `nobody`
    /// had given it back then. What was cooling is drained through `freed`.
    pub fn spend(&mut self, quota: &Quota, since: Instant, nobody: O, freed: impl FnMut(O)) {
        self.clear(freed);
        let held = self.in_flight as usize;
        let cooling = (quota.requests.get() as usize).saturating_sub(held);
        self.returned.resize(cooling, (since, nobody));
    }

    /// Forgets what is cooling; `freed` learns whose slots those were.
    pub fn clear(&mut self, freed: impl FnMut(O)) {
        self.returned
            .drain(..)
            .map(|(_, owner)| owner)
            .for_each(freed);
    }

    /// Frees the slots that have cooled by `now`; `freed` learns whose they were.
    pub fn cool(&mut self, quota: &Quota, now: Instant, mut freed: impl FnMut(O)) {
        while let Some(&(returned, owner)) = self.returned.front() {
            if returned + quota.per > now {
                break;
            }
            self.returned.pop_front();
            freed(owner);
        }
    }

    /// When a slot is next known to become free, as seen at `now`. `None` while
    /// that depends on answers still to come.
    pub fn next_free(&self, quota: &Quota, now: Instant) -> Option<Instant> {
        let over = (self.used() + 1).saturating_sub(quota.requests.get() as usize);
        match over {
            0 => Some(now),
            over => self
                .returned
                .get(over - 1)
                .map(|(returned, _)| *returned + quota.per),
        }
    }

    /// When the request that has `ahead` others before it may be expected to get
    /// a slot, if answers take `round_trip`.
    pub fn expected(
        &self,
        quota: &Quota,
        now: Instant,
        ahead: usize,
        round_trip: Duration,
    ) -> Instant {
        let limit = quota.requests.get() as usize;
        // How many slots must become free first: `ahead` others and mine.
        let needed = (self.used() + ahead + 1).saturating_sub(limit);
        if needed == 0 {
            return now;
        }
        // The slots in the order in which they become free: those that cool, then
        // those on their way, then those that are taken from now on. From the
        // last `limit` of them on, each becomes free again every cycle.
        let cycle = quota.per.saturating_add(round_trip);
        let known = self.used().max(limit);
        let nth = |n: usize| match self.returned.get(n) {
            Some(&(returned, _)) => (returned + quota.per).max(now),
            None => now + cycle,
        };
        match (needed - 1).checked_sub(known) {
            None => nth(needed - 1),
            Some(beyond) => {
                let rounds = u32::try_from(beyond / limit + 1).unwrap_or(u32::MAX);
                nth(known - limit + beyond % limit) + cycle.saturating_mul(rounds)
            }
        }
    }

    /// When the slot was given back that cools next.
    #[must_use]
    pub fn first_returned(&self) -> Option<Instant> {
        self.returned.front().map(|(returned, _)| *returned)
    }

    /// How many slots are held or cooling.
    #[must_use]
    pub fn used(&self) -> usize {
        self.in_flight as usize + self.returned.len()
    }

    /// How many slots are held by requests on their way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
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
    fn a_slot_is_free_one_window_after_its_answer() {
        let (quota, start) = (quota(2, 1000 * MS), Instant::now());
        let mut window = Window::default();
        window.take();
        window.take();
        assert_eq!(window.free(&quota), 0);
        assert_eq!(window.next_free(&quota, start), None);
        window.give_back_sent("mine", start + 60 * MS);
        assert_eq!(window.next_free(&quota, start), Some(start + 1060 * MS));
        let mut freed = Vec::new();
        window.cool(&quota, start + 1059 * MS, |owner| freed.push(owner));
        assert_eq!((window.free(&quota), freed.len()), (0, 0));
        window.cool(&quota, start + 1060 * MS, |owner| freed.push(owner));
        assert_eq!((window.free(&quota), freed), (1, vec!["mine"]));
    }

    #[test]
    fn a_slot_that_was_not_used_is_free_at_once() {
        let quota = quota(1, 1000 * MS);
        let mut window = Window::<()>::default();
        window.take();
        window.give_back_unsent();
        assert_eq!(window.free(&quota), 1);
    }

    #[test]
    fn a_smaller_quota_waits_for_the_excess_to_cool() {
        let (small, start) = (quota(2, 1000 * MS), Instant::now());
        let mut window = Window::default();
        for n in 0..4 {
            window.take();
            window.give_back_sent((), start + n * MS);
        }
        assert_eq!(
            window.next_free(&small, start + 4 * MS),
            Some(start + 1002 * MS)
        );
        let expected = |ahead| window.expected(&small, start, ahead, Duration::ZERO) - start;
        assert_eq!(
            [0, 1, 2, 3].map(expected),
            [1002, 1003, 2002, 2003].map(|ms| ms * MS)
        );
        window.cool(&small, start + 1001 * MS, drop);
        assert_eq!(window.free(&small), 0);
        window.cool(&small, start + 1002 * MS, drop);
        assert_eq!(window.free(&small), 1);
    }

    #[test]
    fn the_expected_wait_counts_those_ahead_and_whole_cycles() {
        let (quota, start) = (quota(2, 1000 * MS), Instant::now());
        let mut window = Window::default();
        window.take();
        window.give_back_sent((), start);
        let now = start + 100 * MS;
        let expected = |ahead| window.expected(&quota, now, ahead, 60 * MS) - start;
        assert_eq!(expected(0), 100 * MS, "one is free now");
        assert_eq!(expected(1), 1000 * MS, "the next when the first has cooled");
        assert_eq!(
            expected(2),
            1160 * MS,
            "the next when one taken now has cooled"
        );
        assert_eq!(expected(3), 1000 * MS + 1060 * MS);
    }

    #[test]
    fn spent_slots_are_nobodys_and_cool_together() {
        let (quota, start) = (quota(3, 1000 * MS), Instant::now());
        let mut window = Window::default();
        window.take();
        window.take();
        window.give_back_sent(Some(7), start);
        let mut freed = Vec::new();
        window.spend(&quota, start, None, |owner| freed.push(owner));
        assert_eq!((window.free(&quota), freed), (0, vec![Some(7)]));
        assert_eq!(window.first_returned(), Some(start));
        window.cool(&quota, start + 1000 * MS, |owner| assert_eq!(owner, None));
        assert_eq!(window.free(&quota), 2);
    }
}
