//! One skill's estimate of its hidden quota.
//!
//! Before the first 429 there is no estimate and no cap. The first 429 says which
//! rate was too high, and the responses of the second before it which rate was not;
//! [`RateLevel`] goes on from there. An estimate expires an hour after the last 429.

use std::time::Duration;

use tokio::time::Instant;

use super::event::LearningEvent;
use super::level::RateLevel;
use super::pause::ThrottlePause;
use super::recent::RecentResponses;
use crate::limits::quota::Quota;

#[derive(Debug, Default)]
pub(super) struct RateEstimator {
    level: Option<RateLevel>,
    recent: RecentResponses,
    pause: ThrottlePause,
    /// The number of 429 responses.
    throttled: u64,
}

/// An attempt, when upstream has responded to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentAttempt {
    pub(crate) sent_at: Instant,
    /// Whether the learned rate was saturated when the attempt was admitted.
    pub(crate) saturated: bool,
}

/// An attempt that met a 429.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThrottledAttempt {
    pub(super) sent_at: Instant,
    pub(super) others_in_flight: u32,
    pub(super) retry_after: Option<Duration>,
}

/// An estimate, for the status page. Rates are in requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RateEstimate {
    /// The rate in force.
    pub(crate) rate: f64,
    /// The highest rate believed to be allowed.
    pub(crate) safe: f64,
    /// 0 for a first guess, towards 1.
    pub(crate) confidence: f64,
    /// The number of 429 responses.
    pub(crate) throttled: u64,
    pub(crate) last_429: Instant,
}

impl RateEstimator {
    /// Learns from a 429.
    pub(super) fn throttled(
        &mut self,
        attempt: ThrottledAttempt,
        now: Instant,
    ) -> Option<LearningEvent> {
        self.throttled += 1;
        let level = self.level.as_mut();
        // A request sent before the last cut says nothing about the rate since.
        let is_news = level.is_none_or(|level| attempt.sent_at >= level.since());
        self.pause.start(now, attempt.retry_after, is_news);
        // Responses overtake each other: assume the others in flight are accepted.
        let accepted = self.recent.per_second(now) + f64::from(attempt.others_in_flight);
        match &mut self.level {
            None => {
                let level = RateLevel::after_first_429(accepted, now);
                self.level = Some(level);
                Some(LearningEvent::Capped { rate: level.rate() })
            }
            Some(level) if !is_news => {
                level.throttled_late(now);
                None
            }
            Some(level) => {
                let confirmed = level.throttled(accepted, now);
                confirmed.then(|| LearningEvent::Confirmed { rate: level.safe() })
            }
        }
    }

    /// Learns from any other response. `configured_rate` bounds the estimate.
    /// Returns whether the rate in force changed.
    pub(super) fn accepted(
        &mut self,
        attempt: SentAttempt,
        configured_rate: Option<f64>,
        now: Instant,
    ) -> bool {
        self.recent.note(now);
        self.pause.accepted(attempt.sent_at);
        let Some(level) = &mut self.level else {
            return false;
        };
        if level.is_outdated(now) {
            self.level = None;
            return true;
        }
        let max = configured_rate.unwrap_or(f64::INFINITY);
        attempt.saturated && level.accepted(attempt.sent_at, max, now)
    }

    /// Drops the estimate. A pause stays.
    pub(super) fn forget(&mut self) {
        self.level = None;
    }

    /// The rate in force, as a quota to keep.
    pub(super) fn quota(&self) -> Option<Quota> {
        self.level.map(|level| level.quota())
    }

    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause.until(now)
    }

    pub(super) fn retry_reserve(&self) -> Duration {
        self.level.map_or(Duration::ZERO, |level| {
            self.pause.last() + Duration::from_secs_f64(1.0 / level.rate().max(1.0))
        })
    }

    /// The estimate, unless it is outdated.
    pub(super) fn estimate(&self, now: Instant) -> Option<RateEstimate> {
        let level = self.level.filter(|level| !level.is_outdated(now));
        level.map(|level| RateEstimate {
            rate: level.rate(),
            safe: level.safe(),
            confidence: level.confidence(),
            throttled: self.throttled,
            last_429: level.last_429(),
        })
    }
}

#[cfg(test)]
mod tests;
