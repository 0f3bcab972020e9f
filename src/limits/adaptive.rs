//! What is believed about a quota that nobody publishes.
//!
//! Until the first 429 nothing is believed and nothing is capped. A 429 then says
//! how much was too much, and the answers of the second before it how much was
//! not. From there the rate climbs back, fast while it is far from what was safe
//! and slowly near it, stays there, and tries a little more from time to time:
//! first soon, then ever more seldom while the same ceiling is met again, and in
//! ever larger steps while it is not. That is the course of CUBIC (RFC 9438:
//! concave, a plateau, convex), except that a failed try goes back to what has
//! held, without a cut.
//!
//! Nothing is assumed of the shape of the hidden window: a rate is kept as strict
//! slots of about a second with an even pace, which suits fixed and sliding
//! windows and token buckets alike.
//!
//! Pure: time is passed in.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::quota::Quota;

/// Beliefs about one skill's calls of one family to one region.
#[derive(Debug, Default)]
pub(super) struct Belief {
    level: Option<Level>,
    recent: Recent,
    paused_until: Option<Instant>,
    /// How long the last pause was.
    last_pause: Duration,
    /// 429s without a pause that helped in between.
    strikes: u32,
    /// How many 429s there were in all.
    throttled: u64,
}

/// Rates are in requests per second.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// The one in force.
    rate: f64,
    /// The highest that has held, or is thought to.
    safe: f64,
    /// The one that had held when the row of tries began that is under way.
    proven: f64,
    /// The one that was last too much.
    ceiling: f64,
    /// How often that ceiling was met in a row.
    confirmations: u32,
    /// Since when `rate` is in force.
    since: Instant,
    /// How many answers have come to requests sent at this rate while it was all
    /// in use.
    pressed: u32,
    /// The share by which the try that is under way exceeds `safe`; 0 if none is.
    step: f64,
    /// The share by which the next row of tries begins.
    first_step: f64,
    /// When the next try may begin.
    try_at: Instant,
    /// When `safe` was last raised.
    raised_at: Instant,
    last_429: Instant,
}

/// Something that an operator may want to read in the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Notice {
    /// The first 429: from now on there is a cap, in requests per second.
    Capped(f64),
    /// The ceiling was met so often that the rate is as good as known.
    Confirmed(f64),
}

/// What is believed, for the status page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Believed {
    pub(super) rate: f64,
    pub(super) safe: f64,
    /// From 0, a first guess, towards 1.
    pub(super) confidence: f64,
    pub(super) last_429: Instant,
}

impl Belief {
    /// Takes note of a 429 to a request that was sent at `sent_at`, while so many
    /// others were on their way.
    pub(super) fn throttled(
        &mut self,
        now: Instant,
        (sent_at, others): (Instant, u32),
        retry_after: Option<Duration>,
    ) -> Option<Notice> {
        self.throttled += 1;
        let is_news = self.level.is_none_or(|level| sent_at >= level.since);
        self.strikes += u32::from(is_news);
        self.pause(now, retry_after);
        // Answers overtake each other: what is on its way has been taken, too.
        let recent = self.recent.per_second(now) + f64::from(others);
        match &mut self.level {
            None => {
                let level = Level::first(recent, now);
                self.level = Some(level);
                Some(Notice::Capped(level.rate))
            }
            // It was sent at a rate that is given up already.
            Some(level) if !is_news => {
                level.last_429 = now;
                None
            }
            Some(level) => {
                let confirmed = level.refused(recent, now);
                confirmed.then_some(Notice::Confirmed(level.safe))
            }
        }
    }

    /// Takes note of any other answer. `pressed` tells whether the whole rate was
    /// in use when it was sent; `most` is the rate that is configured, if one is.
    /// Answers whether the rate has changed.
    pub(super) fn counted(
        &mut self,
        now: Instant,
        sent_at: Instant,
        pressed: bool,
        most: Option<f64>,
    ) -> bool {
        self.recent.note(now);
        if self.paused_until.is_none_or(|until| sent_at >= until) {
            self.strikes = 0;
        }
        let Some(level) = &mut self.level else {
            return false;
        };
        if level.is_over(now) {
            self.level = None;
            return true;
        }
        level.held(now, sent_at, pressed, most.unwrap_or(f64::INFINITY))
    }

    /// The rate in force, as a quota to keep.
    pub(super) fn quota(&self) -> Option<Quota> {
        let level = self.level?;
        let quota = quota(level.rate);
        // A try goes in single file: the fewer are on their way when it fails, the
        // fewer are refused.
        // A try that a configured quota caps is none.
        Some(match level.step > 0.0 && level.rate > level.safe {
            true => Quota {
                burst: Some(NonZeroU32::MIN),
                ..quota
            },
            false => quota,
        })
    }

    /// Until when nothing is to be sent, if that is still to come.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    /// How much time a request needs that is answered 429, beyond that for another
    /// answer: a pause like the last one, and a slot.
    pub(super) fn reserve(&self) -> Duration {
        self.level.map_or(Duration::ZERO, |level| {
            self.last_pause + Duration::from_secs_f64(1.0 / level.rate.max(1.0))
        })
    }

    /// What is believed, unless that is too old to be worth telling.
    pub(super) fn believed(&self, now: Instant) -> Option<Believed> {
        let level = self.level.filter(|level| !level.is_over(now));
        level.map(|level| Believed {
            rate: level.rate,
            safe: level.safe,
            confidence: 1.0 - 0.5f64.powi(i32::try_from(level.confirmations).unwrap_or(i32::MAX)),
            last_429: level.last_429,
        })
    }

    pub(super) fn throttled_total(&self) -> u64 {
        self.throttled
    }

    /// Whether nothing would be lost by forgetting this belief.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.level.is_none_or(|level| level.is_over(now)) && self.paused_until(now).is_none()
    }

    /// No longer believes anything, but keeps a pause: that was asked for.
    pub(super) fn forget(&mut self) {
        self.level = None;
    }

    fn pause(&mut self, now: Instant, retry_after: Option<Duration>) {
        let doubled = 2u32.saturating_pow(self.strikes.saturating_sub(1));
        let own = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_OWN_PAUSE);
        // Zero seconds is no advice; it would have us try again at once, for ever.
        let asked = retry_after.filter(|asked| !asked.is_zero());
        let pause = asked.map_or(own, |asked| asked.min(LONGEST_PAUSE));
        self.last_pause = pause;
        self.paused_until = self.paused_until.max(Some(now + pause));
    }
}

impl Level {
    fn first(recent: f64, now: Instant) -> Self {
        // Upstream may have been busy with calls that were not ours, before a
        // restart for instance: few answers say little.
        let ceiling = recent.max(FEW);
        let safe = SAFE * ceiling;
        let (first_step, hold) = match recent < FEW {
            true => (1.0, Duration::ZERO),
            false => (STEP, FIRST_HOLD),
        };
        Self {
            rate: CUT * safe,
            safe,
            proven: LEAST,
            ceiling,
            confirmations: 0,
            since: now,
            pressed: 0,
            step: 0.0,
            first_step,
            try_at: now + hold,
            raised_at: now,
            last_429: now,
        }
    }

    /// A request sent at this rate was answered 429. Answers whether the ceiling
    /// is as good as known now.
    fn refused(&mut self, recent: f64, now: Instant) -> bool {
        let was_trying = self.step > 0.0;
        (self.last_429, self.since, self.pressed) = (now, now, 0);
        self.first_step = STEP;
        // How much upstream has just taken tells a quota that is about what we
        // think from one that is far below it; nothing at all tells only the latter.
        let taken = match recent > 0.0 {
            true => self.rate.min(recent.max(1.0)),
            false => self.rate / 2.0,
        };
        let near = taken >= NEAR * self.safe;
        let again = near && taken <= self.ceiling / NEAR;
        self.confirmations = if again { self.confirmations + 1 } else { 0 };
        self.step = 0.0;
        self.try_at = now + self.hold();
        self.ceiling = taken;
        if was_trying && near {
            // The tries went too far. What held before them still does. What they
            // reached may have been luck, or a bucket that was full: half of a small
            // gain is kept, and all of a large one.
            let reached = (SAFE * taken).min(self.safe).max(self.proven);
            self.safe = match reached > LARGE * self.proven {
                true => reached,
                false => (reached + self.proven) / 2.0,
            };
            self.rate = self.safe;
        } else if near && now - self.raised_at > YOUNG {
            self.safe = SAFE * self.rate;
            self.rate = CUT * self.safe;
        } else if near {
            // The last tries went too far: a bucket that was full hid it.
            self.safe = SAFE * taken;
            self.rate = CUT * self.safe;
        } else {
            self.safe = SAFE * taken;
            self.rate = DEEP_CUT * self.safe;
        }
        self.safe = self.safe.max(LEAST);
        self.rate = self.rate.clamp(LEAST, self.safe);
        self.confirmations == CONFIRMED
    }

    /// A request sent at this rate, or an earlier one, was not answered 429.
    fn held(&mut self, now: Instant, sent_at: Instant, pressed: bool, most: f64) -> bool {
        if !pressed || sent_at < self.since {
            return false;
        }
        self.pressed += 1;
        // So many seconds of full use; a rate that is not used proves nothing.
        let trial = if self.step > 0.0 { TRIAL } else { 1.0 };
        if f64::from(self.pressed) < self.rate.max(1.0) * trial {
            return false;
        }
        if self.rate < self.safe {
            let half = (self.safe - self.rate) / 2.0;
            self.rate = (self.rate + half.max(STEP * self.safe)).min(self.safe);
        } else if now >= self.try_at {
            self.step = match self.step > 0.0 {
                true => (self.step * 2.0).min(1.0),
                false => {
                    self.proven = self.rate;
                    self.first_step
                }
            };
            (self.safe, self.raised_at) = (self.rate, now);
            self.rate *= 1.0 + self.step;
        } else {
            return false;
        }
        self.rate = self.rate.min(most);
        (self.since, self.pressed) = (now, 0);
        true
    }

    /// Whether the last 429 was so long ago that this is worth nothing any more. The
    /// next answer forgets it.
    fn is_over(&self, now: Instant) -> bool {
        now - self.last_429 > FORGET_AFTER
    }

    /// How long to stay with what is safe before the next try.
    fn hold(&self) -> Duration {
        let doubled = FIRST_HOLD.saturating_mul(2u32.saturating_pow(self.confirmations));
        doubled.min(LONGEST_HOLD)
    }
}

/// A rate as slots: as many as go into a second, rounded up, in the time that so
/// many take. A quarter of them may go at once, so that the few calls of one turn
/// go together.
fn quota(rate: f64) -> Quota {
    let slots = rate.ceil().clamp(1.0, 100_000.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped"
    )]
    let slots = NonZeroU32::new(slots as u32).unwrap_or(NonZeroU32::MIN);
    Quota {
        requests: slots,
        per: Duration::from_secs_f64(f64::from(slots.get()) / rate),
        burst: NonZeroU32::new(slots.get() / 4).or(Some(NonZeroU32::MIN)),
    }
}

/// When answers came that were not 429, for as long as it takes to know how many
/// there were in a second.
#[derive(Debug, Default)]
struct Recent {
    answers: VecDeque<Instant>,
}

impl Recent {
    fn note(&mut self, now: Instant) {
        self.forget(now);
        if self.answers.len() == MOST_RECENT {
            self.answers.pop_front();
        }
        self.answers.push_back(now);
    }

    /// How many answers came in the last second; by their spacing, if those that
    /// are remembered all came within less.
    fn per_second(&mut self, now: Instant) -> f64 {
        self.forget(now);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
        let count = self.answers.len() as f64;
        match self.answers.front() {
            Some(&first) if self.answers.len() == MOST_RECENT => {
                count / (now - first).as_secs_f64().max(1e-3)
            }
            _ => count,
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.answers.front().is_some_and(|at| *at + SECOND <= now) {
            self.answers.pop_front();
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// How many answers are remembered; 256 tell a rate of hundreds a second within a
/// few per cent.
const MOST_RECENT: usize = 256;

/// How close to its ceiling a rate is safe. The upstream's clock is not ours, and
/// jitter crowds requests together.
const SAFE: f64 = 0.95;

/// What a rate that was thought safe is multiplied by when it was not, to let the
/// upstream's window drain. CUBIC's own factor is 0.7; ours starts from what the
/// upstream has just taken rather than from what we had hoped for.
const CUT: f64 = 0.8;

/// The same when the upstream takes far less than was thought safe.
const DEEP_CUT: f64 = 0.5;

/// Ceilings within this ratio are the same ceiling.
const NEAR: f64 = 0.75;

/// The share by which the first try exceeds what is safe; each further one is
/// twice as bold.
const STEP: f64 = 0.05;

/// For how many seconds a rate is tried.
const TRIAL: f64 = 2.0;

/// What a row of tries has to gain to be believed at once.
const LARGE: f64 = 1.5;

/// A rate that has been safe for less than this may have been luck.
const YOUNG: Duration = Duration::from_secs(30);

/// Fewer answers than this, in the second before the first 429, are no measure.
const FEW: f64 = 5.0;

/// How long a new ceiling is respected; twice as long each time it is met again.
const FIRST_HOLD: Duration = Duration::from_secs(5);

/// The longest wait between two tries: a quota that rises is to be found within two
/// minutes.
const LONGEST_HOLD: Duration = Duration::from_secs(110);

/// So many confirmations make a rate worth telling an operator.
const CONFIRMED: u32 = 3;

/// The lowest rate that is believed in: one request in a minute.
const LEAST: f64 = 1.0 / 60.0;

/// Without a new 429, a belief is worth so much.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// The pause after a 429 that does not say how long to stay away; doubled while
/// it does not help.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_OWN_PAUSE: Duration = Duration::from_secs(4);

/// The longest `Retry-After` that is obeyed: a mistake upstream must not silence a
/// skill for a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A belief after `taken` answers within a second and then a 429.
    fn throttled_after(taken: u32, start: Instant) -> (Belief, Instant) {
        let mut belief = Belief::default();
        let now = start + SECOND;
        for n in 0..taken {
            let at = start + SECOND * n / taken + MS;
            belief.counted(at, at, false, None);
        }
        belief.throttled(now, (now, 0), None);
        (belief, now)
    }

    /// Answers to requests sent at full rate, for so long.
    fn press(belief: &mut Belief, from: Instant, seconds: u32) -> Instant {
        let end = from + SECOND * seconds;
        let mut now = from;
        while now < end {
            now += Duration::from_secs_f64(1.0 / rate(belief));
            belief.counted(now, now, true, None);
        }
        now
    }

    fn rate(belief: &Belief) -> f64 {
        belief.level.unwrap().rate
    }

    #[test]
    fn nothing_is_capped_before_the_first_429() {
        let (mut belief, now) = (Belief::default(), Instant::now());
        for n in 0..10_000 {
            assert!(!belief.counted(now + n * MS, now, true, None));
        }
        assert_eq!((belief.quota(), belief.paused_until(now)), (None, None));
    }

    #[test]
    fn the_first_429_believes_what_was_taken_before_it() {
        let (mut belief, now) = throttled_after(20, Instant::now());
        assert!((rate(&belief) - CUT * SAFE * 20.0).abs() < 1e-9);
        press(&mut belief, now, 4);
        assert!((rate(&belief) - SAFE * 20.0).abs() < 1e-9, "it climbs back");
    }

    #[test]
    fn a_429_to_what_was_sent_before_the_last_one_cuts_nothing() {
        let (mut belief, now) = throttled_after(20, Instant::now());
        let before = rate(&belief);
        belief.throttled(now + 50 * MS, (now - 10 * MS, 0), None);
        assert_eq!(rate(&belief), before);
        assert_eq!(belief.throttled_total(), 2);
    }

    #[test]
    fn a_failed_try_goes_back_and_the_next_one_waits_longer() {
        let (mut belief, mut now) = throttled_after(20, Instant::now());
        let mut holds = Vec::new();
        for _ in 0..8 {
            let since = now;
            while rate(&belief) <= belief.level.unwrap().safe {
                now = press(&mut belief, now, 1);
            }
            holds.push((now - since).as_secs());
            now += MS;
            belief.throttled(now, (now, 0), None);
            assert!(rate(&belief) >= 15.0, "{}", rate(&belief));
        }
        assert!(holds.is_sorted() && holds[7] >= 95, "{holds:?}");
        assert!(belief.believed(now).unwrap().confidence > 0.9);
    }

    #[test]
    fn without_a_429_tries_become_bolder() {
        let (mut belief, now) = throttled_after(20, Instant::now());
        press(&mut belief, now, 40);
        assert!(rate(&belief) > 100.0, "{}", rate(&belief));
    }

    #[test]
    fn a_rate_that_is_not_used_proves_nothing() {
        let (mut belief, now) = throttled_after(20, Instant::now());
        let before = rate(&belief);
        for n in 1..1000 {
            let at = now + n * 200 * MS;
            assert!(!belief.counted(at, at, false, None));
        }
        assert_eq!(rate(&belief), before);
    }

    #[test]
    fn a_configured_quota_is_a_ceiling() {
        let (mut belief, mut now) = throttled_after(20, Instant::now());
        for _ in 0..2000 {
            now += 50 * MS;
            belief.counted(now, now, true, Some(22.0));
        }
        assert_eq!(rate(&belief), 22.0);
        assert_eq!(belief.quota(), Some(quota(22.0)), "it is no try any more");
    }

    #[test]
    fn pauses_are_as_long_as_asked_or_double() {
        let (mut belief, now) = throttled_after(20, Instant::now());
        assert_eq!(belief.paused_until(now), Some(now + 250 * MS));
        let later = now + SECOND;
        belief.throttled(later, (later, 0), None);
        assert_eq!(belief.paused_until(later), Some(later + 500 * MS));
        belief.throttled(later, (later, 0), Some(3 * SECOND));
        assert_eq!(belief.paused_until(later), Some(later + 3 * SECOND));
        belief.throttled(later, (later, 0), Some(86_400 * SECOND));
        assert_eq!(belief.paused_until(later), Some(later + LONGEST_PAUSE));
    }

    #[test]
    fn an_old_belief_is_forgotten() {
        let (mut belief, now) = throttled_after(20, Instant::now());
        let later = now + FORGET_AFTER + MS;
        assert!(belief.is_idle(later) && !belief.is_idle(now));
        assert!(belief.believed(now).is_some());
        assert_eq!(
            belief.believed(later),
            None,
            "nobody is told of it any more"
        );
        assert!(belief.counted(later, later, false, None));
        assert!(belief.level.is_none());
    }

    #[test]
    fn a_rate_is_kept_as_slots_of_about_a_second() {
        let slots = |rate| {
            let quota = quota(rate);
            let burst = quota.burst.map(NonZeroU32::get);
            (quota.requests.get(), quota.per.as_millis(), burst)
        };
        assert_eq!(slots(20.0), (20, 1000, Some(5)));
        assert_eq!(slots(4.8), (5, 1041, Some(1)));
        assert_eq!(slots(0.5), (1, 2000, Some(1)));
    }
}
