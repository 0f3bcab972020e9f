//! How tenants share the slots of a region's quota: weighted max-min fairness, with
//! floors and headroom.
//!
//! [`FairSchedule`](super::schedule) decides who goes next. That alone is not enough,
//! because a slot is held for a whole window: a tenant that takes all slots at once
//! makes the others wait for a window, however early their turn. So this file decides
//! how many slots a tenant may hold:
//!
//! - Below its **floor**, a tenant needs a free slot only, and goes before tenants
//!   above theirs. Unused floors are kept free for their owners.
//! - Below its **share**, which is by weight among the tenants active of late, it goes
//!   before tenants over theirs.
//! - Over its share, it leaves [`Headroom`] free for tenants within their share that
//!   call now and then. This costs that fraction of the quota, and only while some
//!   tenant is over its share.
//!
//! Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::headroom::Headroom;

/// One tenant's part of a region's slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    weight: u32,
    /// The number of slots reserved for it.
    floor: u32,
    /// The number of slots it holds, in flight or cooling down.
    used: u32,
    /// Until when it counts as active; `None` while it does not.
    active_until: Option<Instant>,
}

impl Usage {
    pub(super) fn new(weight: u32, floor: u32) -> Self {
        Self {
            weight,
            floor,
            used: 0,
            active_until: None,
        }
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    pub(super) fn used(&self) -> u32 {
        self.used
    }

    fn is_below_floor(&self) -> bool {
        self.used < self.floor
    }
}

/// Who goes first, before start tags are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    BelowFloor,
    WithinShare,
    OverShare,
}

/// The sums over all tenants of a region.
#[derive(Debug, Default)]
pub(super) struct Shares {
    active_weight: u64,
    /// The sum of all floors, and how much of it is in use.
    floors: usize,
    floors_used: usize,
    headroom: Headroom,
    /// When inactive tenants are next looked for.
    next_expiry: Option<Instant>,
}

impl Shares {
    /// Sets the sum of all configured floors, whether their owners have called yet
    /// or not.
    pub(super) fn set_floors(&mut self, floors: usize) {
        self.floors = floors;
    }

    /// Counts a slot that a tenant takes.
    pub(super) fn take(&mut self, usage: &mut Usage, now: Instant, window: Duration) {
        if usage.active_until.is_none() {
            self.active_weight += u64::from(usage.weight);
        }
        usage.active_until = Some(now + activity(window));
        usage.used += 1;
        self.floors_used += usize::from(usage.used <= usage.floor);
    }

    /// Counts a slot of a tenant as free again.
    pub(super) fn release(&mut self, usage: &mut Usage) {
        self.floors_used -= usize::from(usage.used <= usage.floor);
        usage.used -= 1;
    }

    /// Applies a new weight and floor.
    pub(super) fn adjust(&mut self, usage: &mut Usage, weight: u32, floor: u32) {
        if usage.active_until.is_some() {
            self.active_weight -= u64::from(usage.weight);
            self.active_weight += u64::from(weight);
        }
        self.floors_used -= usage.used.min(usage.floor) as usize;
        self.floors_used += usage.used.min(floor) as usize;
        (usage.weight, usage.floor) = (weight, floor);
    }

    /// Whether a tenant holds its share of `slots` or more.
    pub(super) fn is_over(&self, usage: &Usage, slots: usize) -> bool {
        usage.used as usize >= self.share(usage, slots).max(usage.floor as usize)
    }

    pub(super) fn rank(&self, usage: &Usage, slots: usize) -> Rank {
        if usage.is_below_floor() {
            Rank::BelowFloor
        } else if self.is_over(usage, slots) {
            Rank::OverShare
        } else {
            Rank::WithinShare
        }
    }

    /// Whether a tenant may take one of `free` slots out of `slots`.
    pub(super) fn allows(&self, usage: &Usage, free: usize, slots: usize) -> bool {
        if usage.is_below_floor() {
            return free > 0;
        }
        let reserved = self.reserved_from(usage);
        let (used, share) = (usage.used as usize, self.share(usage, slots));
        // A tenant far over its share leaves all of the headroom; a tenant just over
        // it leaves little, so that small bursts are not punished.
        let excess = used.saturating_sub(share) as f64 / used.max(1) as f64;
        free as f64 > reserved as f64 + self.headroom.of(slots) * excess
    }

    /// The number of free slots that a tenant has to leave for the floors of others.
    pub(super) fn reserved_from(&self, usage: &Usage) -> usize {
        if usage.is_below_floor() {
            0
        } else {
            self.floors.saturating_sub(self.floors_used)
        }
    }

    /// A tenant within its share has to wait behind one over its share.
    pub(super) fn note_crowding(&mut self, slots: usize) {
        self.headroom.grow(slots);
    }

    /// A tenant within its share does not have to wait.
    pub(super) fn note_ease(&mut self, slots: usize) {
        self.headroom.shrink(slots);
    }

    /// Whether inactive tenants are to be expired now; true once in a while.
    pub(super) fn is_expiry_due(&mut self, now: Instant, window: Duration) -> bool {
        let due = self.next_expiry.is_none_or(|at| at <= now);
        if due {
            self.next_expiry = Some(now + activity(window));
        }
        due
    }

    /// Stops counting a tenant that is not active any more.
    pub(super) fn expire(&mut self, usage: &mut Usage, now: Instant) {
        if usage.used == 0 && usage.active_until.is_some_and(|until| until <= now) {
            self.remove(usage);
        }
    }

    /// Stops counting a tenant.
    pub(super) fn remove(&mut self, usage: &mut Usage) {
        if usage.active_until.take().is_some() {
            self.active_weight -= u64::from(usage.weight);
        }
    }

    /// A tenant's share, rounded up, so that the shares use all slots.
    fn share(&self, usage: &Usage, slots: usize) -> usize {
        let weight = u64::from(usage.weight);
        let total = match usage.active_until {
            Some(_) => self.active_weight,
            None => self.active_weight + weight,
        };
        let share = (slots as u64 * weight).div_ceil(total.max(1));
        usize::try_from(share).unwrap_or(usize::MAX)
    }
}

/// How long a tenant counts as active after a request: ten windows, so that one that
/// calls now and then keeps its share.
fn activity(window: Duration) -> Duration {
    (window * 10).clamp(Duration::from_secs(10), Duration::from_secs(600))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    fn take(shares: &mut Shares, usage: &mut Usage, slots: u32) {
        for _ in 0..slots {
            shares.take(usage, Instant::now(), WINDOW);
        }
    }

    #[test]
    fn shares_follow_weights_and_are_rounded_up() {
        let mut shares = Shares::default();
        let mut usages = [1, 2, 4].map(|weight| Usage::new(weight, 0));
        for usage in &mut usages {
            take(&mut shares, usage, 1);
        }
        assert_eq!(usages.map(|usage| shares.share(&usage, 70)), [10, 20, 40]);
        assert_eq!(usages.map(|usage| shares.share(&usage, 10)), [2, 3, 6]);
    }

    #[test]
    fn a_tenant_alone_may_take_everything() {
        let (mut shares, mut usage) = (Shares::default(), Usage::new(1, 0));
        take(&mut shares, &mut usage, 99);
        shares.note_crowding(100);
        assert!(shares.allows(&usage, 1, 100) && !shares.is_over(&usage, 100));
    }

    #[test]
    fn a_floor_is_kept_free_for_its_owner() {
        let mut shares = Shares::default();
        shares.set_floors(5);
        let (mut owner, mut other) = (Usage::new(1, 5), Usage::new(1, 0));
        assert!(!shares.allows(&other, 5, 10) && shares.allows(&other, 6, 10));
        take(&mut shares, &mut other, 5);
        assert!(shares.allows(&owner, 5, 10));
        take(&mut shares, &mut owner, 3);
        assert!(!shares.allows(&other, 2, 10) && shares.allows(&owner, 2, 10));
        shares.release(&mut owner);
        assert!(!shares.allows(&other, 3, 10) && shares.allows(&other, 4, 10));
        shares.adjust(&mut owner, 1, 0);
        shares.set_floors(0);
        assert!(shares.allows(&other, 1, 10));
    }

    #[test]
    fn headroom_binds_a_noisy_tenant_more_than_a_lively_one() {
        let mut shares = Shares::default();
        let (mut noisy, mut lively, mut quiet) =
            (Usage::new(1, 0), Usage::new(1, 0), Usage::new(1, 0));
        take(&mut shares, &mut noisy, 80);
        take(&mut shares, &mut lively, 34);
        take(&mut shares, &mut quiet, 1);
        // Of ten slots of headroom, the noisy tenant leaves 10 · (80 - 34) / 80.
        assert!(!shares.allows(&noisy, 5, 100) && shares.allows(&noisy, 6, 100));
        assert!(shares.allows(&lively, 1, 100) && shares.allows(&quiet, 1, 100));
        assert!(shares.is_over(&noisy, 100) && !shares.is_over(&quiet, 100));
        for _ in 0..40 {
            shares.note_crowding(100);
        }
        assert!(!shares.allows(&noisy, 11, 100) && shares.allows(&noisy, 12, 100));
        for _ in 0..15_000 {
            shares.note_ease(100);
        }
        assert!(!shares.allows(&noisy, 2, 100) && shares.allows(&noisy, 3, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn an_inactive_tenant_leaves_its_share_to_the_others() {
        let (mut shares, mut one, mut two) =
            (Shares::default(), Usage::new(1, 0), Usage::new(1, 0));
        take(&mut shares, &mut one, 60);
        take(&mut shares, &mut two, 1);
        shares.release(&mut two);
        assert!(shares.is_over(&one, 100));
        assert!(shares.is_expiry_due(Instant::now(), WINDOW));
        assert!(!shares.is_expiry_due(Instant::now(), WINDOW));
        tokio::time::advance(WINDOW * 10).await;
        assert!(shares.is_expiry_due(Instant::now(), WINDOW));
        for usage in [&mut one, &mut two] {
            shares.expire(usage, Instant::now());
        }
        assert!(!shares.is_over(&one, 100), "it is alone now");
        assert!(shares.allows(&one, 1, 100));
    }
}
