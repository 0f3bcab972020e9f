//! How skills share the slots of a region's quota: weighted max-min, with floors.
//!
//! Which skill goes next is decided elsewhere, by virtual time; here it is
//! decided how many slots a skill may hold. A slot is held for a whole window, so
//! order alone is not enough: whoever takes all slots at once makes everybody
//! else wait for a window's length, however early their turn comes.
//!
//! - Below its **floor**, a skill only needs a free slot, and goes before those that
//!   are not. Slots of floors that are not in use are kept free for their owners.
//! - Below its **share**, by weight, of the skills that were active of late, it
//!   goes before those that are over theirs.
//! - Over its share, it leaves **headroom**: free slots for those who are within
//!   theirs and come now and then. The headroom follows need: it grows when such
//!   a one had to wait behind a skill that is over its share and wants yet more,
//!   and shrinks a little with each that had not, so that it settles where 4 in
//!   1,000 have to (stochastic approximation of a quantile: Robbins and Monro,
//!   1951). What it costs is that much of the quota, and only while somebody
//!   crowds.

use std::time::Duration;

use tokio::time::Instant;

/// One skill's part in a region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stake {
    pub(super) weight: u32,
    /// How many slots are kept for it.
    pub(super) floor: u32,
    /// How many slots it holds, on their way or cooling.
    used: u32,
    /// Until when it counts among the active ones.
    active_until: Option<Instant>,
}

impl Stake {
    pub(super) fn new(weight: u32, floor: u32) -> Self {
        Self {
            weight,
            floor,
            used: 0,
            active_until: None,
        }
    }

    pub(super) fn used(&self) -> u32 {
        self.used
    }
}

/// Who goes before whom, whatever their virtual times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It only needs a free slot.
    BelowFloor,
    WithinShare,
    OverShare,
}

/// What all stakes come to.
#[derive(Debug)]
pub(super) struct Shares {
    active_weight: u64,
    /// All floors there are, and how much of them is in use.
    floors: usize,
    floors_used: usize,
    /// The share of the slots that is left free.
    headroom: f64,
    /// When activity is next looked at.
    next_tick: Option<Instant>,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            active_weight: 0,
            floors: 0,
            floors_used: 0,
            headroom: FIRST_HEADROOM,
            next_tick: None,
        }
    }
}

impl Shares {
    /// All floors that are configured, whether their owners have come yet or not.
    pub(super) fn set_floors(&mut self, floors: usize) {
        self.floors = floors;
    }

    /// Counts a slot that a skill takes.
    pub(super) fn take(&mut self, stake: &mut Stake, now: Instant, window: Duration) {
        if stake.active_until.is_none() {
            self.active_weight += u64::from(stake.weight);
        }
        stake.active_until = Some(now + horizon(window));
        stake.used += 1;
        self.floors_used += usize::from(stake.used <= stake.floor);
    }

    /// Counts a slot as free again.
    pub(super) fn release(&mut self, stake: &mut Stake) {
        self.floors_used -= usize::from(stake.used <= stake.floor);
        stake.used -= 1;
    }

    /// Gives a skill another weight and floor.
    pub(super) fn adjust(&mut self, stake: &mut Stake, weight: u32, floor: u32) {
        if stake.active_until.is_some() {
            self.active_weight -= u64::from(stake.weight);
            self.active_weight += u64::from(weight);
        }
        self.floors_used -= stake.used.min(stake.floor) as usize;
        self.floors_used += stake.used.min(floor) as usize;
        (stake.weight, stake.floor) = (weight, floor);
    }

    /// Whether a skill holds as much as its share of `slots`, or more. Shares are
    /// rounded up, so that all slots are somebody's.
    pub(super) fn is_over(&self, stake: &Stake, slots: usize) -> bool {
        stake.used as usize >= self.share(stake, slots).max(stake.floor as usize)
    }

    /// Before whom a skill goes.
    pub(super) fn rank(&self, stake: &Stake, slots: usize) -> Rank {
        match stake.used < stake.floor {
            true => Rank::BelowFloor,
            false if self.is_over(stake, slots) => Rank::OverShare,
            false => Rank::WithinShare,
        }
    }

    /// Whether a skill may take one of `free` slots out of `slots`.
    pub(super) fn allows(&self, stake: &Stake, free: usize, slots: usize) -> bool {
        if stake.used < stake.floor {
            return free > 0;
        }
        let kept = self.kept_from(stake);
        let (used, share) = (stake.used as usize, self.share(stake, slots));
        // Whoever is just over its share leaves a little, whoever is far over it
        // all of the headroom: small bursts are not noise.
        let over = used.saturating_sub(share) as f64 / used.max(1) as f64;
        free as f64 > kept as f64 + self.headroom * slots as f64 * over
    }

    /// How many free slots are kept from a skill for the floors of others.
    pub(super) fn kept_from(&self, stake: &Stake) -> usize {
        match stake.used < stake.floor {
            true => 0,
            false => self.floors.saturating_sub(self.floors_used),
        }
    }

    /// A skill that is within its share has to wait behind one that is not.
    pub(super) fn crowded(&mut self, slots: usize) {
        self.headroom = (self.headroom + step(slots)).min(0.5);
    }

    /// A skill that is within its share did not have to wait.
    pub(super) fn uncrowded(&mut self, slots: usize) {
        self.headroom = (self.headroom - CROWDED_SHARE * step(slots)).max(0.0);
    }

    /// Whether it is time for [`Shares::tick`].
    pub(super) fn is_tick_due(&mut self, now: Instant, window: Duration) -> bool {
        let due = self.next_tick.is_none_or(|at| at <= now);
        if due {
            self.next_tick = Some(now + horizon(window));
        }
        due
    }

    /// Counts skills out that were not active.
    pub(super) fn tick<'a>(&mut self, stakes: impl Iterator<Item = &'a mut Stake>, now: Instant) {
        for stake in stakes {
            if stake.used == 0 && stake.active_until.is_some_and(|until| until <= now) {
                self.forget(stake);
            }
        }
    }

    /// Counts a skill out.
    pub(super) fn forget(&mut self, stake: &mut Stake) {
        if stake.active_until.take().is_some() {
            self.active_weight -= u64::from(stake.weight);
        }
    }

    fn share(&self, stake: &Stake, slots: usize) -> usize {
        let weight = u64::from(stake.weight);
        let all = match stake.active_until {
            Some(_) => self.active_weight,
            None => self.active_weight + weight,
        };
        let share = (slots as u64 * weight).div_ceil(all.max(1));
        usize::try_from(share).unwrap_or(usize::MAX)
    }
}

/// A four-hundredth of the slots, or a quarter of one: fine enough to settle,
/// coarse enough to get there within minutes.
fn step(slots: usize) -> f64 {
    (0.25 / slots as f64).max(1.0 / 400.0)
}

/// The headroom before anything is known of the need.
const FIRST_HEADROOM: f64 = 0.1;

/// How many of those within their share may have to wait for others: well below
/// one in a hundred, so that their 99th percentile is not moved.
const CROWDED_SHARE: f64 = 0.004;

/// How long a skill counts as active: ten windows, so that one which calls now and
/// then finds room.
fn horizon(window: Duration) -> Duration {
    (window * 10).clamp(Duration::from_secs(10), Duration::from_secs(600))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(1);

    fn take(shares: &mut Shares, stake: &mut Stake, slots: u32) {
        for _ in 0..slots {
            shares.take(stake, Instant::now(), WINDOW);
        }
    }

    #[test]
    fn shares_follow_weights_and_are_rounded_up() {
        let mut shares = Shares::default();
        let mut stakes = [1, 2, 4].map(|weight| Stake::new(weight, 0));
        for stake in &mut stakes {
            take(&mut shares, stake, 1);
        }
        assert_eq!(stakes.map(|stake| shares.share(&stake, 70)), [10, 20, 40]);
        assert_eq!(stakes.map(|stake| shares.share(&stake, 10)), [2, 3, 6]);
    }

    #[test]
    fn alone_a_skill_may_have_everything() {
        let (mut shares, mut stake) = (Shares::default(), Stake::new(1, 0));
        take(&mut shares, &mut stake, 99);
        shares.crowded(100);
        assert!(shares.allows(&stake, 1, 100) && !shares.is_over(&stake, 100));
    }

    #[test]
    fn a_floor_is_kept_free_for_its_owner() {
        let mut shares = Shares::default();
        shares.set_floors(5);
        let (mut owner, mut other) = (Stake::new(1, 5), Stake::new(1, 0));
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
    fn headroom_binds_the_noisy_more_than_the_lively() {
        let mut shares = Shares::default();
        let (mut noisy, mut lively, mut quiet) =
            (Stake::new(1, 0), Stake::new(1, 0), Stake::new(1, 0));
        take(&mut shares, &mut noisy, 80);
        take(&mut shares, &mut lively, 34);
        take(&mut shares, &mut quiet, 1);
        // Ten slots, of which the noisy leaves 10 · (80 - 34) / 80.
        assert!(!shares.allows(&noisy, 5, 100) && shares.allows(&noisy, 6, 100));
        assert!(shares.allows(&lively, 1, 100) && shares.allows(&quiet, 1, 100));
        assert!(shares.is_over(&noisy, 100) && !shares.is_over(&quiet, 100));
        for _ in 0..40 {
            shares.crowded(100);
        }
        assert!(!shares.allows(&noisy, 11, 100) && shares.allows(&noisy, 12, 100));
        for _ in 0..15_000 {
            shares.uncrowded(100);
        }
        assert!(!shares.allows(&noisy, 2, 100) && shares.allows(&noisy, 3, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_away_leaves_its_share_to_the_others() {
        let (mut shares, mut one, mut two) =
            (Shares::default(), Stake::new(1, 0), Stake::new(1, 0));
        take(&mut shares, &mut one, 60);
        take(&mut shares, &mut two, 1);
        shares.release(&mut two);
        assert!(shares.is_over(&one, 100));
        assert!(shares.is_tick_due(Instant::now(), WINDOW));
        assert!(!shares.is_tick_due(Instant::now(), WINDOW));
        tokio::time::advance(WINDOW * 10).await;
        assert!(shares.is_tick_due(Instant::now(), WINDOW));
        shares.tick([&mut one, &mut two].into_iter(), Instant::now());
        assert!(!shares.is_over(&one, 100), "it is alone now");
        assert!(shares.allows(&one, 1, 100));
    }
}
