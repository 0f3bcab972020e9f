//! Calls to Alexa.
//!
//! [`Upstream::fetch`] is for GETs of cached templates. Each attempt waits for a permit,
//! is sent, and is judged by [`retry`], all within one deadline. The response is read to
//! its end, so that a client never gets part of one. Retries of one region share a
//! [`budget`], and a [`breaker`] stops calls to a region that fails.
//!
//! [`Upstream::relay`] is for everything else: streamed in both directions, sent once,
//! subject to quotas but not to the breaker.

pub mod breaker;
pub mod budget;
mod call;
pub mod client;
mod collect;
mod connector;
mod failure;
mod failure_log;
mod policy;
mod pool;
mod resolver;
pub mod retry;
#[cfg(test)]
mod tests;
mod tls;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use http::header::RETRY_AFTER;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::body::{self, Body, Fault, Streamed};
use crate::error::{Error, Kind};
use crate::headers::strip_hop_by_hop;
use crate::limits::{Family, Limits, Permit, Priority, Refusal, Scope};
use crate::metrics::Metrics;
use crate::region::Region;
use breaker::{Breaker, BreakerPermit, BreakerSnapshot};
use budget::Budget;
pub use call::{BufferedResponse, Call, CallStats};
use client::Client;
use collect::collect_limited;
use failure::Failure;
use failure_log::FailureLog;
pub use policy::{FetchPolicy, Policy, RelayPolicy};
use retry::{AttemptOutcome, RetryState, Verdict};

/// The way to Alexa. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: Client,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    guards: Arc<[Guards; Region::ALL.len()]>,
}

/// What all calls to one region share.
#[derive(Debug)]
struct Guards {
    budget: Budget,
    breaker: Breaker,
    failures: FailureLog,
}

/// The right to make one attempt.
struct Admission<'a> {
    permit: Permit,
    breaker: BreakerPermit<'a>,
}

/// One attempt that was made.
struct Attempt {
    result: Result<BufferedResponse, Failure>,
    /// The result as far as it is judged.
    outcome: AttemptOutcome,
    took: Duration,
}

/// The time limits of a call that is relayed.
#[derive(Clone, Copy, Debug)]
pub struct RelayDeadlines {
    /// When it must have its permit.
    pub admit_by: Instant,
    /// When the head of the response must have come, if the caller set a time.
    pub respond_by: Option<Instant>,
}

impl Upstream {
    /// Calls Alexa through `client`, within `limits`.
    #[must_use]
    pub fn new(
        client: Client,
        limits: Arc<Limits>,
        metrics: Arc<Metrics>,
        policy: &Policy,
    ) -> Self {
        let guards = Region::ALL.map(|region| Guards {
            budget: Budget::new(policy.budget),
            breaker: Breaker::new(region, policy.breaker, Arc::clone(&metrics)),
            failures: FailureLog::new(region),
        });
        Self {
            client,
            limits,
            metrics,
            guards: Arc::new(guards),
        }
    }

    /// Applies a new policy; what it does not change keeps its state.
    pub fn reconfigure(&self, policy: &Policy) {
        for guards in self.guards.iter() {
            guards.budget.reconfigure(policy.budget);
            guards.breaker.reconfigure(policy.breaker);
        }
    }

    /// The state of one region's breaker.
    #[must_use]
    pub fn breaker(&self, region: Region) -> BreakerSnapshot {
        self.guards(region).breaker.snapshot()
    }

    /// Fetches a complete response: admit, send, judge, wait, and again.
    ///
    /// If `abandoned` completes between attempts, the call leaves the queue and ends.
    /// Cancelling the future cancels the attempt that is on its way.
    pub async fn fetch(
        &self,
        call: &Call,
        policy: &Policy,
        deadline: Instant,
        abandoned: impl Future<Output = ()>,
    ) -> (Result<BufferedResponse, Error>, CallStats) {
        let mut abandoned = pin!(abandoned);
        let mut stats = CallStats::default();
        let mut state = RetryState::default();
        let mut last: Option<Result<_, Failure>> = None;
        let result = loop {
            let priority = if last.is_none() {
                Priority::New
            } else {
                Priority::Retry
            };
            let admitted = tokio::select! {
                // In this order: a permit granted as the last caller leaves goes back.
                biased;
                () = &mut abandoned => {
                    let error = Error::new(Kind::Abandoned, "all callers have left");
                    return (Err(error), stats);
                }
                admitted = self.admit(call, priority, deadline) => admitted,
            };
            let admission = match (admitted, last) {
                (Ok(admission), _) => admission,
                // What upstream said tells more than why it cannot be asked again.
                (Err(_), Some(last)) => break last,
                (Err(refused), None) => return (Err(refused), stats),
            };
            if stats.attempts == 0 {
                self.guards(call.region).budget.deposit();
            }
            stats.attempts += 1;
            stats.queue_wait += admission.permit.waited();
            let attempt = self.attempt(call, policy, admission, deadline).await;
            stats.upstream_time += attempt.took;
            // Asked each time: a reload may have changed it during the call.
            let learns = self.limits.learns(call.region, Family::Profile);
            let left = deadline.saturating_duration_since(Instant::now());
            state = state.after(attempt.outcome, learns, left);
            match self.verdict(call.region, &policy.retry, state, attempt.outcome) {
                Verdict::Final => break attempt.result,
                Verdict::RetryAfter(wait) => tokio::select! {
                    () = sleep(wait) => last = Some(attempt.result),
                    () = &mut abandoned => break attempt.result,
                },
            }
        };
        let result = result.map_err(|failure| failure.into_error(call.region));
        (result, stats)
    }

    /// Waits for the right to make one attempt. If the breaker opens while the call is
    /// queued, the permit goes back unused.
    async fn admit(
        &self,
        call: &Call,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Admission<'_>, Error> {
        let breaker = &self.guards(call.region).breaker;
        breaker.check()?;
        let skill = call.skill.as_ref();
        let admitted = self
            .limits
            .admit(call.region, Family::Profile, skill, priority, deadline);
        let permit = admitted.await.map_err(refused)?;
        let breaker = breaker.enter()?;
        Ok(Admission { permit, breaker })
    }

    /// Makes one attempt and reads the complete response.
    async fn attempt(
        &self,
        call: &Call,
        policy: &Policy,
        admission: Admission<'_>,
        deadline: Instant,
    ) -> Attempt {
        let Admission { permit, breaker } = admission;
        let started = Instant::now();
        let limit = started + policy.fetch.answer_timeout;
        // Pinned here, because moving a future copies all the room that it takes.
        let response = pin!(async {
            let request = call.request(body::whole(Bytes::new()));
            let token = call.token.as_ref();
            let response = self.client.send(permit, request, token).await?;
            let (parts, body) = response.into_parts();
            let body = collect_limited(body, policy.fetch.max_answer_bytes).await?;
            Ok(Response::from_parts(parts, body))
        });
        let result = match timeout_at(limit.min(deadline), response).await {
            Ok(result) => result,
            Err(_) if limit <= deadline => Err(Kind::AnswerTimeout.into()),
            // The caller's deadline says nothing about upstream.
            Err(_) => Err(Kind::Deadline.into()),
        };
        let took = started.elapsed();
        if let Err(failure) = &result {
            self.guards(call.region).failures.record(failure);
        }
        self.count(call, Family::Profile, &result, took);
        let outcome = outcome(&result);
        breaker.judge(outcome);
        Attempt {
            result,
            outcome,
            took,
        }
    }

    /// Whether to try again, and when: [`retry::verdict`], if the budget allows it.
    /// Retries of throttled calls are left to the quotas.
    fn verdict(
        &self,
        region: Region,
        policy: &retry::Policy,
        state: RetryState,
        outcome: AttemptOutcome,
    ) -> Verdict {
        let verdict = retry::verdict(policy, state, outcome, fastrand::f64());
        let is_free = verdict == Verdict::Final || outcome.is_throttled();
        if is_free || self.guards(region).budget.withdraw() {
            return verdict;
        }
        self.metrics.retry_denied(region);
        Verdict::Final
    }

    /// Sends a call once and relays the response as it arrives.
    ///
    /// Besides `deadlines`, the head of the response must come within `answer_timeout`
    /// after upstream took the last of the request body. `stats` is filled in on the way,
    /// so that it is right even if the caller leaves.
    ///
    /// # Errors
    /// The quota does not admit the call in time, the request body fails, or no response
    /// head comes.
    pub async fn relay(
        &self,
        call: &Call,
        policy: &RelayPolicy,
        Streamed { body, mut progress }: Streamed,
        deadlines: RelayDeadlines,
        stats: &mut CallStats,
    ) -> Result<Response<Body>, Error> {
        let (region, family, skill) = (call.region, Family::Passthrough, call.skill.as_ref());
        let RelayDeadlines {
            admit_by,
            respond_by,
        } = deadlines;
        let admitted = self
            .limits
            .admit(region, family, skill, Priority::New, admit_by);
        let permit = admitted.await.map_err(refused)?;
        stats.queue_wait = permit.waited();
        stats.attempts = 1;
        let started = Instant::now();
        let sent = self
            .client
            .send(permit, call.request(body), call.token.as_ref());
        let result = tokio::select! {
            result = sent => result,
            () = progress.still_for(policy.answer_timeout) => Err(Kind::AnswerTimeout.into()),
            () = until(respond_by) => Err(Kind::AnswerTimeout.into()),
        };
        stats.upstream_time = started.elapsed();
        self.count(call, family, &result, stats.upstream_time);
        let response = result.map_err(|failure| match progress.fault() {
            // The caller's fault, though it looks like upstream's.
            Some(Fault::Broke) => Error::new(Kind::BadRequest, "request body cut off"),
            Some(Fault::Stalled) => Error::new(Kind::RequestTimeout, "request body stalled"),
            None => {
                self.guards(region).failures.record(&failure);
                failure.into_error(region)
            }
        })?;
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        let stream = body::stream(body, policy.body_idle_timeout);
        Ok(Response::from_parts(parts, stream.body))
    }

    fn guards(&self, region: Region) -> &Guards {
        &self.guards[region.index()]
    }

    fn count<B>(
        &self,
        call: &Call,
        family: Family,
        result: &Result<Response<B>, Failure>,
        took: Duration,
    ) {
        let status = result.as_ref().map(Response::status).map_err(Failure::kind);
        let skill = call.skill.as_ref();
        self.metrics
            .attempt(call.region, family, skill, status, took);
    }
}

/// The result of an attempt, as far as it is judged.
fn outcome(result: &Result<BufferedResponse, Failure>) -> AttemptOutcome {
    match result {
        Ok(response) => {
            let headers = response.headers();
            // The clock is read only if there may be a date to compare it with.
            let retry_after = headers
                .contains_key(RETRY_AFTER)
                .then(|| retry::retry_after(headers, SystemTime::now()));
            AttemptOutcome::Responded(response.status(), retry_after.flatten())
        }
        Err(failure) => AttemptOutcome::Failed(failure.kind()),
    }
}

/// The error for a call that the quotas refuse.
pub(crate) fn refused(refusal: Refusal) -> Error {
    let error = if refusal.scope == Scope::Queue {
        Error::new(Kind::QueueFull, "the queue for the quota is full")
    } else {
        let (scope, seconds) = (refusal.scope.label(), refusal.wait.as_secs_f64());
        let message =
            format!("quota of the {scope}: the wait of {seconds:.3}s does not fit the deadline");
        Error::new(Kind::Quota, message)
    };
    error.retry_after(refusal.wait)
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
