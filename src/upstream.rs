//! Calls to Alexa: the attempt loop for what is fetched, one attempt for what
//! passes through.
//!
//! [`Upstream::fetch`] is for GETs of cached templates: each attempt asks for a
//! permit, sends, and lets [`retry`] judge, all inside one deadline; the answer is
//! read whole, so that a cut one never reaches a client as if it were whole. A
//! region that fails is left alone by its [`breaker`], and retries to it have a
//! budget.
//! [`Upstream::relay`] is for everything else: streamed both ways, sent once.

pub mod breaker;
pub mod budget;
pub mod client;
mod connector;
mod failure;
mod failure_log;
mod policy;
mod pool;
mod resolver;
pub mod retry;
#[cfg(test)]
mod tests;

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::uri::Uri;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::body::{self, Body, Fault, Streamed};
use crate::error::{Error, Kind};
use crate::headers::strip_hop_by_hop;
use crate::limits::{Family, Limits, Permit, Priority, Refusal, Scope};
use crate::metrics::Metrics;
use crate::region::Region;
use crate::token::{BearerToken, SkillId};
use breaker::{Breaker, BreakerSnapshot, Pass};
use budget::Budget;
use client::{Client, ResponseBody};
use failure::Failure;
use failure_log::FailureLog;
pub use policy::{FetchPolicy, Policy, RelayPolicy};
use retry::{Outcome, Tally, Verdict};

/// One call, as often as it takes.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where it goes, for quotas and metrics.
    pub region: Region,
    /// Where it goes, for the network.
    pub uri: Uri,
    /// Whose quota it counts against.
    pub skill: Option<SkillId>,
    /// The method.
    pub method: Method,
    /// The end-to-end headers, without the credentials.
    pub headers: HeaderMap,
    /// The credentials.
    pub token: Option<BearerToken>,
}

/// A whole answer as upstream gave it.
pub type BufferedResponse = Response<Bytes>;

/// What it took to get an answer, or to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallStats {
    /// How often the call was sent.
    pub attempts: u32,
    /// How long it waited for permits.
    pub queue_wait: Duration,
    /// How long upstream took, over all attempts.
    pub upstream_time: Duration,
}

/// The way to Alexa. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: Client,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    guards: Arc<[Guards; 3]>,
}

/// What keeps the calls of all from doing harm to a region that fails.
#[derive(Debug)]
struct Guards {
    budget: Budget,
    breaker: Breaker,
    failures: FailureLog,
}

impl Upstream {
    /// Joins the pool, the quotas and the counters.
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

    /// Applies a new policy; what is not changed keeps its state.
    pub fn reconfigure(&self, policy: &Policy) {
        for guards in self.guards.iter() {
            guards.budget.reconfigure(policy.budget);
            guards.breaker.reconfigure(policy.breaker);
        }
    }

    /// How the breaker of one region stands.
    #[must_use]
    pub fn breaker(&self, region: Region) -> BreakerSnapshot {
        self.guards(region).breaker.snapshot()
    }

    /// Fetches a whole answer, trying again where that may help. When `abandoned`
    /// completes while nothing is on its way, it gives up its place and ends.
    /// Cancelling it ends the attempt that is on its way.
    pub async fn fetch(
        &self,
        call: &Call,
        policy: &Policy,
        deadline: Instant,
        abandoned: impl Future<Output = ()>,
    ) -> (Result<BufferedResponse, Error>, CallStats) {
        let mut stats = CallStats::default();
        let outcome = self
            .attempts(call, policy, deadline, abandoned, &mut stats)
            .await;
        (outcome, stats)
    }

    /// The loop: admit, send, judge, wait.
    async fn attempts(
        &self,
        call: &Call,
        policy: &Policy,
        deadline: Instant,
        abandoned: impl Future<Output = ()>,
        stats: &mut CallStats,
    ) -> Result<BufferedResponse, Error> {
        tokio::pin!(abandoned);
        let stands = |outcome: Result<BufferedResponse, Failure>| {
            outcome.map_err(|failure| failure.into_error(call.region))
        };
        let Guards { budget, .. } = self.guards(call.region);
        let mut last = None;
        let (mut counted, mut unavailable) = (0, 0);
        loop {
            let priority = match last {
                None => Priority::New,
                Some(_) => Priority::Retry,
            };
            let admitted = tokio::select! {
                // A permit that comes as the last caller leaves is for nobody.
                biased;
                () = &mut abandoned => {
                    return Err(Error::new(Kind::Abandoned, "every caller has left"));
                }
                admitted = self.admit(call, priority, deadline) => admitted,
            };
            let (permit, pass) = match (admitted, last) {
                (Ok(admitted), _) => admitted,
                // What upstream said is better news than that we cannot ask again.
                (Err(_), Some(outcome)) => return stands(outcome),
                (Err(refusal), None) => return Err(refusal),
            };
            if stats.attempts == 0 {
                budget.deposit();
            }
            stats.attempts += 1;
            stats.queue_wait += permit.waited();
            let (outcome, took) = self.attempt(call, policy, permit, deadline).await;
            stats.upstream_time += took;
            let seen = seen(&outcome);
            pass.judge(seen);
            unavailable += u32::from(seen.is_unavailable());
            // A reload may have come since this call began.
            let paced = seen.is_throttled() && self.limits.learns(call.region, Family::Profile);
            counted += u32::from(!paced);
            let tally = Tally {
                attempts: counted,
                unavailable,
                left: deadline.saturating_duration_since(Instant::now()),
                paced,
            };
            match retry::verdict(&policy.retry, tally, seen, fastrand::f64()) {
                Verdict::Final => return stands(outcome),
                Verdict::RetryAfter(_) if !seen.is_throttled() && !budget.withdraw() => {
                    self.metrics.retry_denied(call.region);
                    return stands(outcome);
                }
                Verdict::RetryAfter(wait) => tokio::select! {
                    () = sleep(wait) => last = Some(outcome),
                    () = &mut abandoned => return stands(outcome),
                },
            }
        }
    }

    /// Waits for the right to make one attempt. Behind an open breaker nobody
    /// queues, and whoever queued as it opened gives the permit back unsent.
    async fn admit(
        &self,
        call: &Call,
        priority: Priority,
        deadline: Instant,
    ) -> Result<(Permit, Pass<'_>), Error> {
        let Guards { breaker, .. } = self.guards(call.region);
        breaker.check()?;
        let skill = call.skill.as_ref();
        let admitted = self
            .limits
            .admit(call.region, Family::Profile, skill, priority, deadline);
        let permit = admitted.await.map_err(refused)?;
        Ok((permit, breaker.enter()?))
    }

    fn guards(&self, region: Region) -> &Guards {
        &self.guards[region.index()]
    }

    /// One attempt: sends, and reads the whole answer. Tells how long that took.
    async fn attempt(
        &self,
        call: &Call,
        policy: &Policy,
        permit: Permit,
        deadline: Instant,
    ) -> (Result<BufferedResponse, Failure>, Duration) {
        let started = Instant::now();
        let limit = started + policy.fetch.answer_timeout;
        // Pinned where it is made: a future that is moved into another is copied, with
        // all the room that it takes.
        let answer = pin!(async {
            let request = request_of(call, body::whole(Bytes::new()));
            let token = call.token.as_ref();
            let response = self.client.send(permit, request, token).await?;
            let (parts, body) = response.into_parts();
            let body = whole(body, policy.fetch.max_answer_bytes).await?;
            Ok(Response::from_parts(parts, body))
        });
        let outcome = timeout_at(limit.min(deadline), answer).await;
        // Only a time-out of its own says something about upstream.
        let outcome = outcome.unwrap_or_else(|_| {
            let timeout = if limit <= deadline {
                Kind::AnswerTimeout
            } else {
                Kind::Deadline
            };
            Err(timeout.into())
        });
        let took = started.elapsed();
        if let Err(failure) = &outcome {
            self.guards(call.region).failures.record(failure);
        }
        let label = outcome
            .as_ref()
            .map(Response::status)
            .map_err(Failure::kind);
        let skill = call.skill.as_ref();
        self.metrics
            .attempt(call.region, Family::Profile, skill, label, took);
        (outcome, took)
    }

    /// Sends a call once and relays its answer as it comes. The call waits for its
    /// quota until `admit_by` at most, and for its answer until `answer_by` if the
    /// caller set a time; in any case for no longer than `answer_timeout` after
    /// upstream took the last piece of the body.
    ///
    /// # Errors
    /// The quota would not let it through in time, the request's body failed, or no
    /// answer's head came.
    pub async fn relay(
        &self,
        call: &Call,
        policy: &Policy,
        Streamed { body, mut progress }: Streamed,
        (admit_by, answer_by): (Instant, Option<Instant>),
        stats: &mut CallStats,
    ) -> Result<Response<Body>, Error> {
        let skill = call.skill.as_ref();
        let admitted = self
            .limits
            .admit(
                call.region,
                Family::Passthrough,
                skill,
                Priority::New,
                admit_by,
            )
            .await;
        let permit = admitted.map_err(refused)?;
        stats.queue_wait = permit.waited();
        stats.attempts = 1;
        let started = Instant::now();
        let settings = &policy.relay;
        let send = self
            .client
            .send(permit, request_of(call, body), call.token.as_ref());
        let outcome = tokio::select! {
            outcome = send => outcome,
            () = progress.still_for(settings.answer_timeout) => Err(Kind::AnswerTimeout.into()),
            () = until(answer_by) => Err(Kind::AnswerTimeout.into()),
        };
        stats.upstream_time = started.elapsed();
        let label = outcome
            .as_ref()
            .map(Response::status)
            .map_err(Failure::kind);
        self.metrics.attempt(
            call.region,
            Family::Passthrough,
            skill,
            label,
            stats.upstream_time,
        );
        let response = outcome.map_err(|failure| match progress.fault() {
            // What looks like upstream's failure was the caller's.
            Some(Fault::Broke) => Error::new(Kind::BadRequest, "the request's body breaks off"),
            Some(Fault::Stalled) => Error::new(Kind::RequestTimeout, "the request's body stalls"),
            None => {
                self.guards(call.region).failures.record(&failure);
                failure.into_error(call.region)
            }
        })?;
        let (mut parts, incoming) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        let stream = body::stream(incoming, settings.body_idle_timeout);
        Ok(Response::from_parts(parts, stream.body))
    }
}

/// Reads a body to its end. One that comes in one piece, as most do, is not copied.
///
/// # Errors
/// It breaks off, or is larger than `limit`, in bytes.
async fn whole(mut body: ResponseBody, limit: usize) -> Result<Bytes, Failure> {
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(Failure::reading_body)?;
        // What is not data is trailers.
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if piece.len() > limit - first.len().max(all.len()) {
            return Err(Kind::AnswerTooLarge.into());
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            all.extend_from_slice(&mem::take(&mut first));
            all.extend_from_slice(&piece);
        }
    }
    Ok(match all.is_empty() {
        true => first,
        false => all.freeze(),
    })
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// An attempt's outcome, as far as it is judged.
fn seen(outcome: &Result<BufferedResponse, Failure>) -> Outcome {
    match outcome {
        Ok(whole) => {
            let headers = whole.headers();
            // The clock is read only where there may be a date to compare it with.
            let asked = headers
                .contains_key(RETRY_AFTER)
                .then(|| retry::retry_after(headers, SystemTime::now()));
            Outcome::Answered(whole.status(), asked.flatten())
        }
        Err(failure) => Outcome::Failed(failure.kind()),
    }
}

fn request_of(call: &Call, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = call.uri.clone();
    *request.headers_mut() = call.headers.clone();
    request
}

/// A refusal by the quotas, as an error.
pub(crate) fn refused(refusal: Refusal) -> Error {
    let seconds = refusal.wait.as_secs_f64();
    let (kind, message) = match refusal.scope {
        Scope::Queue => (
            Kind::QueueFull,
            "the queue for the quota is full".to_owned(),
        ),
        scope => {
            let scope = scope.label();
            (
                Kind::Quota,
                format!(
                    "quota of the {scope}: the wait of {seconds:.3}s does not fit the deadline"
                ),
            )
        }
    };
    Error::new(kind, message).retry_after(refusal.wait)
}
