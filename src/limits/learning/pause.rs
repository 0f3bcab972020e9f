//! The pause after a 429: as long as `Retry-After` says, otherwise an exponential
//! back-off.

use std::time::Duration;

use tokio::time::Instant;

/// The pauses of one skill.
#[derive(Debug, Default)]
pub(super) struct ThrottlePause {
    until: Option<Instant>,
    /// The length of the last pause.
    last: Duration,
    /// Consecutive 429s, without a request accepted after a pause between them.
    strikes: u32,
}

impl ThrottlePause {
    /// Starts a pause, or extends it. A 429 that is no news was caused by a request
    /// sent before the last one, and does not lengthen the back-off.
    pub(super) fn start(&mut self, now: Instant, retry_after: Option<Duration>, is_news: bool) {
        self.strikes += u32::from(is_news);
        let doubled = 2u32.saturating_pow(self.strikes.saturating_sub(1));
        let backoff = MIN_BACKOFF.saturating_mul(doubled).min(MAX_BACKOFF);
        // Zero seconds is no advice: it would make every retry immediate.
        let advised = retry_after.filter(|advised| !advised.is_zero());
        self.last = advised.map_or(backoff, |advised| advised.min(MAX_RETRY_AFTER));
        self.until = self.until.max(Some(now + self.last));
    }

    /// Resets the back-off if a request sent after the pause was accepted.
    pub(super) fn accepted(&mut self, sent_at: Instant) {
        if self.until.is_none_or(|until| sent_at >= until) {
            self.strikes = 0;
        }
    }

    /// When the current pause ends; `None` without a pause.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// The length of the last pause.
    pub(super) fn last(&self) -> Duration {
        self.last
    }
}

/// The first pause without a `Retry-After`; doubled with each strike.
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(4);

/// The longest `Retry-After` that is obeyed: a mistake of upstream must not silence
/// a skill for a day.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
