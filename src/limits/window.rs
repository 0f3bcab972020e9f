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

/// What is known about the slots of one quota.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// How many slots are held by requests on their way.
    in_flight: u32,
    /// When answers were received whose slots are still cooling; ascending.
    returned: VecDeque<Instant>,
}

impl Window {
    /// Whether a slot is free; always, if there is no quota.
    pub fn has_free(&mut self, quota: Option<&Quota>, now: Instant) -> bool {
        let Some(quota) = quota else { return true };
        self.forget_cooled(quota, now);
        self.used() < quota.requests.get() as usize
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
    pub fn give_back_sent(&mut self, quota: Option<&Quota>, now: Instant) {
        self.in_flight -= 1;
        if quota.is_some() {
            self.returned.push_back(now);
        }
    }

    /// Adapts to a new quota. Where it needs a history that was not kept (there
    /// was no quota, or a shorter window), it starts spent: what was sent before
    /// is not known and is taken to have been all that is allowed.
    pub fn adopt(&mut self, old: Option<&Quota>, new: Option<&Quota>, now: Instant) {
        match new {
            None => self.returned.clear(),
            Some(new) if old.is_none_or(|old| old.per < new.per) => self.spend(new, now),
            Some(_) => {}
        }
    }

    /// Lets every slot that is not held start to cool at `since`.
    pub fn spend(&mut self, quota: &Quota, since: Instant) {
        let held = self.in_flight as usize;
        self.returned.clear();
        self.returned
            .resize((quota.requests.get() as usize).saturating_sub(held), since);
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
                .map(|returned| *returned + quota.per),
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
            Some(&returned) => (returned + quota.per).max(now),
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

    /// Whether nothing would be lost by forgetting this window.
    pub fn is_idle(&mut self, quota: Option<&Quota>, now: Instant) -> bool {
        if let Some(quota) = quota {
            self.forget_cooled(quota, now);
        }
        self.used() == 0
    }

    fn forget_cooled(&mut self, quota: &Quota, now: Instant) {
        while self
            .returned
            .front()
            .is_some_and(|&returned| returned + quota.per <= now)
        {
            self.returned.pop_front();
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
        }
    }

    #[test]
    fn a_slot_is_free_one_window_after_its_answer() {
        let (quota, start) = (quota(2, 1000 * MS), Instant::now());
        let mut window = Window::default();
        window.take();
        window.take();
        assert!(!window.has_free(Some(&quota), start));
        assert_eq!(window.next_free(&quota, start), None);
        window.give_back_sent(Some(&quota), start + 60 * MS);
        assert_eq!(window.next_free(&quota, start), Some(start + 1060 * MS));
        assert!(!window.has_free(Some(&quota), start + 1059 * MS));
        assert!(window.has_free(Some(&quota), start + 1060 * MS));
    }

    #[test]
    fn a_slot_that_was_not_used_is_free_at_once() {
        let (quota, now) = (quota(1, 1000 * MS), Instant::now());
        let mut window = Window::default();
        window.take();
        window.give_back_unsent();
        assert!(window.has_free(Some(&quota), now));
    }

    #[test]
    fn a_smaller_quota_waits_for_the_excess_to_cool() {
        let (large, small, start) = (quota(4, 1000 * MS), quota(2, 1000 * MS), Instant::now());
        let mut window = Window::default();
        for n in 0..4 {
            window.take();
            window.give_back_sent(Some(&large), start + n * MS);
        }
        window.adopt(Some(&large), Some(&small), start + 4 * MS);
        assert_eq!(
            window.next_free(&small, start + 4 * MS),
            Some(start + 1002 * MS)
        );
        let expected = |ahead| window.expected(&small, start, ahead, Duration::ZERO) - start;
        assert_eq!(
            [0, 1, 2, 3].map(expected),
            [1002, 1003, 2002, 2003].map(|ms| ms * MS)
        );
        assert!(!window.has_free(Some(&small), start + 1001 * MS));
        assert!(window.has_free(Some(&small), start + 1002 * MS));
    }

    #[test]
    fn a_quota_without_history_starts_spent() {
        let (new, now) = (quota(3, 1000 * MS), Instant::now());
        for old in [None, Some(quota(100, 100 * MS))] {
            let mut window = Window::default();
            window.take();
            window.adopt(old.as_ref(), Some(&new), now);
            assert!(!window.has_free(Some(&new), now + 999 * MS));
            window.give_back_sent(Some(&new), now + 500 * MS);
            assert!(window.has_free(Some(&new), now + 1000 * MS));
        }
    }

    #[test]
    fn the_expected_wait_counts_those_ahead_and_whole_cycles() {
        let (quota, start) = (quota(2, 1000 * MS), Instant::now());
        let mut window = Window::default();
        window.take();
        window.give_back_sent(Some(&quota), start);
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
    fn no_quota_means_no_history() {
        let now = Instant::now();
        let mut window = Window::default();
        for _ in 0..1000 {
            assert!(window.has_free(None, now));
            window.take();
            window.give_back_sent(None, now);
        }
        assert!(window.is_idle(None, now));
    }
}
