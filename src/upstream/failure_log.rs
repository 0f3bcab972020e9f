//! Logs the failures of one region.
//!
//! Each failure is logged once, with its source chain: at `warn` if none of its kind
//! was in the last minute, else at `debug`. Only failures take the lock.

use std::time::Duration;

use parking_lot::Mutex;
use strum::EnumCount as _;
use tokio::time::Instant;

use super::failure::Failure;
use crate::error::Kind;
use crate::region::Region;

/// How often a kind of failure is logged at `warn`.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What has been logged of one region.
#[derive(Debug)]
pub(super) struct FailureLog {
    region: Region,
    /// By kind. Held for a few comparisons, never across an await.
    kinds: Mutex<[Warnings; Kind::COUNT]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Warnings {
    last: Option<Instant>,
    /// How many failures since then were logged at `debug`.
    held_back: u32,
}

impl FailureLog {
    pub(super) fn new(region: Region) -> Self {
        Self {
            region,
            kinds: Mutex::default(),
        }
    }

    /// Logs one failure.
    pub(super) fn record(&self, failure: &Failure) {
        let region = self.region.name();
        let error = failure.kind().label();
        let error_type = failure.error_type().name();
        let causes = failure.causes();
        match self.warn(failure.kind(), Instant::now()) {
            Some(held_back) => tracing::warn!(
                region, error, error_type, %causes, held_back,
                "upstream call failed: {failure}; others like it are logged at debug for a minute"
            ),
            None => tracing::debug!(
                region, error, error_type, %causes,
                "upstream call failed: {failure}"
            ),
        }
    }

    /// Whether a failure is to be logged at `warn`; if so, how many since the last
    /// warning were not.
    fn warn(&self, kind: Kind, now: Instant) -> Option<u32> {
        // The caller's deadline says nothing about upstream.
        if kind == Kind::Deadline {
            return None;
        }
        let warnings = &mut self.kinds.lock()[kind as usize];
        if warnings.last.is_some_and(|last| now - last < WARN_EVERY) {
            warnings.held_back = warnings.held_back.saturating_add(1);
            return None;
        }
        let held_back = warnings.held_back;
        *warnings = Warnings {
            last: Some(now),
            held_back: 0,
        };
        Some(held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_a_warning_once_a_minute() {
        let log = FailureLog::new(Region::Eu);
        let warn = |kind| log.warn(kind, Instant::now());
        assert_eq!(warn(Kind::Connect), Some(0));
        assert_eq!(warn(Kind::Connect), None);
        assert_eq!(warn(Kind::Connect), None);
        assert_eq!(warn(Kind::Tls), Some(0), "another kind");
        tokio::time::advance(WARN_EVERY).await;
        assert_eq!(warn(Kind::Connect), Some(2));
        assert_eq!(warn(Kind::Connect), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_callers_deadline_is_no_warning() {
        let log = FailureLog::new(Region::Eu);
        assert_eq!(log.warn(Kind::Deadline, Instant::now()), None);
    }
}
