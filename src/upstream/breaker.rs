//! The breaker of one region: while it is open, calls fail at once.
//!
//! Why, when retries have a budget? Each call to a region that is down still waits
//! for its time-out, in the queue's way, to learn what the last thousand learned.
//! An open breaker answers 503 with `Retry-After`, or lets a stale answer stand in,
//! and lets one real call through at a time to see whether the region is back.
//!
//! It is about the region, not about a skill: a 4xx is an answer, and a 429 counts
//! neither way, except that a probe which gets one has found the region. It judges
//! and holds GETs of cached templates only; what passes through never meets it.

mod circuit;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::retry::Outcome;
use crate::error::{Error, Kind};
use crate::metrics::Metrics;
use crate::region::Region;
use circuit::{Change, Circuit, Epoch, Health, Held};
pub use circuit::{Phase, Policy};

/// The breaker of one region.
#[derive(Debug)]
pub(super) struct Breaker {
    region: Region,
    metrics: Arc<Metrics>,
    /// Held for a few comparisons at a time, never across an await.
    circuit: Mutex<Circuit>,
}

/// The right of one attempt to go, which it ends by [`Pass::judge`]. Dropped
/// without, the attempt tells nothing, and another may go in a probe's place.
#[derive(Debug)]
#[must_use]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    epoch: Epoch,
    health: Option<Health>,
}

/// One breaker as the status page shows it.
#[derive(Clone, Debug, Serialize)]
pub struct BreakerSnapshot {
    /// `closed`, `half_open` or `open`.
    pub state: Phase,
    /// Since when it has been closed, or has not, as RFC 3339 has it.
    pub since: String,
    /// Why it opened last, if ever.
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

    /// Applies a new policy to the circuit as it is.
    pub(super) fn reconfigure(&self, policy: Policy) {
        self.lock().reconfigure(policy, Instant::now());
    }

    /// Tells whether an attempt could go now.
    ///
    /// # Errors
    /// [`Kind::BreakerOpen`], with the time until the next probe.
    pub(super) fn check(&self) -> Result<(), Error> {
        let checked = self.lock().check(Instant::now());
        checked.map_err(|held| self.refused(held))
    }

    /// Lets one attempt go.
    ///
    /// # Errors
    /// As [`Breaker::check`].
    pub(super) fn enter(&self) -> Result<Pass<'_>, Error> {
        let entered = self.lock().enter(Instant::now());
        let epoch = entered.map_err(|held| self.refused(held))?;
        Ok(Pass {
            breaker: self,
            epoch,
            health: None,
        })
    }

    pub(super) fn snapshot(&self) -> BreakerSnapshot {
        let circuit = self.lock();
        let since = SystemTime::now() - circuit.since().elapsed();
        BreakerSnapshot {
            state: circuit.phase(Instant::now()),
            since: humantime::format_rfc3339_seconds(since).to_string(),
            last_reason: circuit.last_reason().map(|reason| reason.to_string()),
        }
    }

    fn refused(&self, held: Held) -> Error {
        let (region, Held { wait, reason }) = (self.region, held);
        let seconds = wait.as_secs_f64();
        let message =
            format!("upstream {region}: breaker open ({reason}); next probe in {seconds:.3}s");
        Error::new(Kind::BreakerOpen, message).retry_after(wait)
    }

    /// The one place that tells of a change: once each, however many calls it holds.
    fn tell(&self, change: Change) {
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
            // Part of an outage that has been told of.
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

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Ends the attempt with what came of it.
    pub(super) fn judge(mut self, outcome: Outcome) {
        self.health = health(outcome);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let (now, draw) = (Instant::now(), fastrand::f64());
        let change = self
            .breaker
            .lock()
            .judge(self.epoch, self.health, now, draw);
        if let Some(change) = change {
            self.breaker.tell(change);
        }
    }
}

/// What an outcome tells about the region.
fn health(outcome: Outcome) -> Option<Health> {
    match outcome {
        // One skill's throttling must not cut off the others.
        Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, _) => Some(Health::Throttling),
        Outcome::Answered(status, _) if matches!(status.as_u16(), 500 | 502 | 503 | 504) => {
            Some(Health::Failing(outcome))
        }
        Outcome::Answered(..) => Some(Health::Alive),
        Outcome::Failed(kind) => match kind {
            Kind::Dns
            | Kind::Connect
            | Kind::ConnectTimeout
            | Kind::Tls
            | Kind::AnswerLost
            | Kind::AnswerTimeout => Some(Health::Failing(outcome)),
            Kind::AnswerTooLarge | Kind::BadAnswer => Some(Health::Alive),
            // The call's own deadline came first.
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answered(status: u16) -> Outcome {
        Outcome::Answered(StatusCode::from_u16(status).unwrap(), None)
    }

    #[test]
    fn what_keeps_an_answer_from_coming_is_a_failure_and_so_is_saying_so() {
        let kinds = [
            Kind::Dns,
            Kind::Connect,
            Kind::ConnectTimeout,
            Kind::Tls,
            Kind::AnswerLost,
            Kind::AnswerTimeout,
        ];
        let statuses = [500, 502, 503, 504].map(answered);
        for outcome in kinds.map(Outcome::Failed).into_iter().chain(statuses) {
            assert_eq!(health(outcome), Some(Health::Failing(outcome)));
        }
    }

    #[test]
    fn any_other_answer_shows_that_the_region_is_alive() {
        let kinds = [Kind::AnswerTooLarge, Kind::BadAnswer].map(Outcome::Failed);
        let statuses = [200, 204, 301, 400, 401, 403, 404, 408, 501, 505].map(answered);
        for outcome in statuses.into_iter().chain(kinds) {
            assert_eq!(health(outcome), Some(Health::Alive), "{outcome:?}");
        }
    }

    #[test]
    fn a_callers_own_deadline_tells_nothing() {
        assert_eq!(health(Outcome::Failed(Kind::Deadline)), None);
    }

    #[test]
    fn throttling_neither_opens_it_nor_keeps_it_open() {
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
            breaker.enter().unwrap().judge(answered(status));
            assert_eq!(breaker.snapshot().state, phase, "after {status}");
        }
    }
}
