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
    /// When the next try may begin.
    try_at: Instant,
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
    /// Takes note of a 429 to a request that was sent at `sent_at`.
    pub(super) fn throttled(
        &mut self,
        now: Instant,
        sent_at: Instant,
        retry_after: Option<Duration>,
    ) -> Option<Notice> {
        self.throttled += 1;
        let is_news = self.level.is_none_or(|level| sent_at >= level.since);
        self.strikes += u32::from(is_news);
        self.pause(now, retry_after);
        let recent = self.recent.per_second(now);
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
        if now - level.last_429 > FORGET_AFTER {
            self.level = None;
            return true;
        }
        level.held(now, sent_at, pressed, most.unwrap_or(f64::INFINITY))
    }

    /// The rate in force, as a quota to keep.
    pub(super) fn quota(&self) -> Option<Quota> {
        self.level.map(|level| quota(level.rate))
    }

    /// Until when nothing is to be sent, if that is still to come.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    pub(super) fn believed(&self) -> Option<Believed> {
        self.level.map(|level| Believed {
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
        let level = self.level;
        level.is_none_or(|level| now - level.last_429 > FORGET_AFTER)
            && self.paused_until(now).is_none()
    }

    /// No longer believes anything, but keeps a pause: that was asked for.
    pub(super) fn forget(&mut self) {
        self.level = None;
    }

    fn pause(&mut self, now: Instant, retry_after: Option<Duration>) {
        let doubled = 2u32.saturating_pow(self.strikes.saturating_sub(1));
        let own = FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_OWN_PAUSE);
        let pause = retry_after.map_or(own, |asked| asked.min(LONGEST_PAUSE));
        self.paused_until = self.paused_until.max(Some(now + pause));
    }
}

impl Level {
    fn first(recent: f64, now: Instant) -> Self {
        let ceiling = recent.max(1.0);
        let safe = SAFE * ceiling;
        Self {
            rate: CUT * safe,
            safe,
            ceiling,
            confirmations: 0,
            since: now,
            pressed: 0,
            step: 0.0,
            try_at: now + FIRST_HOLD,
            last_429: now,
        }
    }

    /// A request sent at this rate was answered 429. Answers whether the ceiling
    /// is as good as known now.
    fn refused(&mut self, recent: f64, now: Instant) -> bool {
        let was_trying = self.step > 0.0;
        (self.last_429, self.since, self.pressed) = (now, now, 0);
        // What upstream took in the last second says more than what we believed,
        // unless it took nothing, which says only that the rate was too high.
        let ceiling = match recent > 0.0 {
            true => self.rate.min(recent.max(1.0)),
            false => self.rate / 2.0,
        };
        let near = ceiling >= NEAR * self.safe;
        let again = near && ceiling <= self.ceiling / NEAR;
        self.confirmations = if again { self.confirmations + 1 } else { 0 };
        self.step = 0.0;
        self.try_at = now + self.hold();
        self.ceiling = ceiling;
        if was_trying && near {
            // The try has failed; what held before still does.
            self.rate = self.safe;
        } else {
            self.safe = SAFE * ceiling;
            self.rate = if near {
                CUT * self.safe
            } else {
                DEEP_CUT * self.safe
            };
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
        // About a second of full use; a rate that is not used proves nothing.
        if f64::from(self.pressed) < self.rate.max(1.0) {
            return false;
        }
        if self.rate < self.safe {
            let half = (self.safe - self.rate) / 2.0;
            self.rate = (self.rate + half.max(STEP * self.safe)).min(self.safe);
        } else if now >= self.try_at {
            self.step = match self.step > 0.0 {
                true => (self.step * 2.0).min(1.0),
                false => STEP,
            };
            self.safe = self.rate;
            self.rate *= 1.0 + self.step;
        } else {
            return false;
        }
        self.rate = self.rate.min(most);
        (self.since, self.pressed) = (now, 0);
        true
    }

    /// How long to stay with what is safe before the next try.
    fn hold(&self) -> Duration {
        let most = (TRY_SHARE / self.safe.max(LEAST)).clamp(LONGEST_HOLD.0, LONGEST_HOLD.1);
        let doubled = FIRST_HOLD.saturating_mul(2u32.saturating_pow(self.confirmations));
        doubled.min(Duration::from_secs_f64(most))
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
const SAFE: f64 = 0.96;

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

/// How long a new ceiling is respected; twice as long each time it is met again.
const FIRST_HOLD: Duration = Duration::from_secs(5);

/// The longest wait between two tries, in seconds, from and to: a quota that
/// rises is to be found within two minutes.
const LONGEST_HOLD: (f64, f64) = (100.0, 600.0);

/// One try, which is one 429 or two, for so many requests.
const TRY_SHARE: f64 = 2500.0;

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
