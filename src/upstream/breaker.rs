//! The breaker of one region: while it is open, calls fail at once.
//!
//! Why, when retries have a budget? Without it, every call to a region that is down waits
//! for its time-out and holds up the queue, to learn what the last thousand learned. While
//! the breaker is open, calls get 503 with `Retry-After`, or a stale response, and one call
//! at a time goes through as a probe.
//!
//! It is about a region, not a skill: a 4xx shows that the region is alive. A 429 counts
//! neither way, but closes an open breaker if the probe gets it. Only GETs of cached
//! templates are judged and refused; calls that are relayed are not.

mod circuit;

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use super::retry::AttemptOutcome;
use crate::error::{Error, Kind};
use crate::metrics::Metrics;
use crate::region::Region;
use circuit::{Change, Circuit, Epoch, Health, Rejected};
pub use circuit::{Phase, Policy};

/// The breaker of one region.
#[derive(Debug)]
pub(super) struct Breaker {
    region: Region,
    metrics: Arc<Metrics>,
    /// Locked for a few comparisons, never across an await.
    circuit: Mutex<Circuit>,
}

/// The permission to make one attempt, to be returned with [`BreakerPermit::judge`]. If it
/// is dropped instead, the attempt counts neither way, and another call may be the probe.
#[derive(Debug)]
#[must_use]
pub(super) struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    epoch: Epoch,
    health: Option<Health>,
}

/// A breaker, as the status page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct BreakerSnapshot {
    /// `closed`, `half_open` or `open`.
    pub state: Phase,
    /// When it last opened or closed (RFC 3339).
    pub since: String,
    /// Why it last opened.
    pub last_reason: Option<String>,
}

impl Breaker {
    pub(super) fn new(region: Region, policy: Policy, metrics: Arc<Metrics>) -> Self {
        Self {
            region,
            metrics,
            circuit: Mutex::new(Circuit::new(policy, Instant::now())),
        }
    }

    /// Applies a new policy to the present state.
    pub(super) fn reconfigure(&self, policy: Policy) {
        self.circuit.lock().reconfigure(policy, Instant::now());
    }

    /// Checks whether an attempt would be permitted now.
    ///
    /// # Errors
    /// [`Kind::BreakerOpen`], with the time until the next probe.
    pub(super) fn check(&self) -> Result<(), Error> {
        let checked = self.circuit.lock().check(Instant::now());
        checked.map_err(|rejected| self.refused(rejected))
    }

    /// Permits one attempt.
    ///
    /// # Errors
    /// As [`Breaker::check`].
    pub(super) fn enter(&self) -> Result<BreakerPermit<'_>, Error> {
        let entered = self.circuit.lock().enter(Instant::now());
        let epoch = entered.map_err(|rejected| self.refused(rejected))?;
        Ok(BreakerPermit {
            breaker: self,
            epoch,
            health: None,
        })
    }

    pub(super) fn snapshot(&self) -> BreakerSnapshot {
        let circuit = self.circuit.lock();
        let since = SystemTime::now() - circuit.since().elapsed();
        BreakerSnapshot {
            state: circuit.phase(Instant::now()),
            since: humantime::format_rfc3339_seconds(since).to_string(),
            last_reason: circuit.last_reason().map(|reason| reason.to_string()),
        }
    }

    fn refused(&self, Rejected { wait, reason }: Rejected) -> Error {
        let region = self.region;
        let seconds = wait.as_secs_f64();
        let message =
            format!("upstream {region}: breaker open ({reason}); next probe in {seconds:.3}s");
        Error::new(Kind::BreakerOpen, message).retry_after(wait)
    }

    /// Logs and counts a change of state. Each is reported once, however many calls it
    /// affects.
    fn report(&self, change: Change) {
        let region = self.region.name();
        match change {
            Change::Opened { reason, open } => {
                self.metrics.breaker_opened(self.region);
                tracing::warn!(
                    region,
                    %reason,
                    next_probe_seconds = open.as_secs_f64(),
                    "breaker opened: calls to the region fail fast until a probe succeeds"
                );
            }
            // Part of an outage that was reported.
            Change::Reopened { open } => tracing::debug!(
                region,
                next_probe_seconds = open.as_secs_f64(),
                "breaker: the probe failed"
            ),
            Change::Closed { after } => tracing::info!(
                region,
                open_seconds = after.as_secs_f64(),
                "breaker closed: a probe succeeded"
            ),
        }
    }
}

impl BreakerPermit<'_> {
    /// Ends the attempt with its outcome.
    pub(super) fn judge(mut self, outcome: AttemptOutcome) {
        self.health = health(outcome);
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        let (now, draw) = (Instant::now(), fastrand::f64());
        let change = self
            .breaker
            .circuit
            .lock()
            .judge(self.epoch, self.health, now, draw);
        if let Some(change) = change {
            self.breaker.report(change);
        }
    }
}

/// What an outcome says about the region; `None` if nothing.
fn health(outcome: AttemptOutcome) -> Option<Health> {
    match outcome {
        // A throttled skill must not cut off the others.
        AttemptOutcome::Responded(StatusCode::TOO_MANY_REQUESTS, _) => Some(Health::Throttling),
        AttemptOutcome::Responded(status, _)
            if matches!(status.as_u16(), 500 | 502 | 503 | 504) =>
        {
            Some(Health::Failing(outcome))
        }
        AttemptOutcome::Responded(..) => Some(Health::Alive),
        AttemptOutcome::Failed(kind) => match kind {
            Kind::Dns
            | Kind::Connect
            | Kind::ConnectTimeout
            | Kind::Tls
            | Kind::AnswerLost
            | Kind::AnswerTimeout => Some(Health::Failing(outcome)),
            Kind::AnswerTooLarge | Kind::BadAnswer => Some(Health::Alive),
            // The caller's deadline came first.
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn responded(status: u16) -> AttemptOutcome {
        AttemptOutcome::Responded(StatusCode::from_u16(status).unwrap(), None)
    }

    #[test]
    fn a_missing_response_and_a_5xx_are_failures() {
        let kinds = [
            Kind::Dns,
            Kind::Connect,
            Kind::ConnectTimeout,
            Kind::Tls,
            Kind::AnswerLost,
            Kind::AnswerTimeout,
        ];
        let statuses = [500, 502, 503, 504].map(responded);
        for outcome in kinds
            .map(AttemptOutcome::Failed)
            .into_iter()
            .chain(statuses)
        {
            assert_eq!(health(outcome), Some(Health::Failing(outcome)));
        }
    }

    #[test]
    fn any_other_response_shows_that_the_region_is_alive() {
        let kinds = [Kind::AnswerTooLarge, Kind::BadAnswer].map(AttemptOutcome::Failed);
        let statuses = [200, 204, 301, 400, 401, 403, 404, 408, 501, 505].map(responded);
        for outcome in statuses.into_iter().chain(kinds) {
            assert_eq!(health(outcome), Some(Health::Alive), "{outcome:?}");
        }
    }

    #[test]
    fn a_callers_deadline_says_nothing() {
        assert_eq!(health(AttemptOutcome::Failed(Kind::Deadline)), None);
    }

    #[test]
    fn throttling_neither_opens_the_breaker_nor_keeps_it_open() {
        let breaker = Breaker::new(
            Region::Eu,
            Policy {
                enabled: true,
                consecutive_failures: 1.try_into().unwrap(),
                min_success_percent: 50,
                min_requests: 8.try_into().unwrap(),
                window: Duration::from_secs(10),
                open: Duration::ZERO,
                max_open: Duration::ZERO,
            },
            Arc::default(),
        );
        for (status, phase) in [
            (429, Phase::Closed),
            (503, Phase::HalfOpen),
            (429, Phase::Closed),
        ] {
            breaker.enter().unwrap().judge(responded(status));
            assert_eq!(breaker.snapshot().state, phase, "after {status}");
        }
    }
}
