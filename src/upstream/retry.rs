//! Whether to retry, and after which wait.
//!
//! Exponential back-off with full jitter (M. Brooker, "Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015). Pure: the random draw is passed in. Only GETs
//! of cached templates are judged here; nothing else is ever retried.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::error::Kind;

/// How often one call is attempted, and how long it waits between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Attempts in total, the first included.
    pub max_attempts: NonZeroU32,
    /// The upper bound of the first back-off; it doubles with each attempt.
    pub base_backoff: Duration,
    /// The upper bound of every back-off.
    pub max_backoff: Duration,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// With a response, which may say when to try again.
    Responded(StatusCode, Option<Duration>),
    /// Without one.
    Failed(Kind),
}

impl AttemptOutcome {
    /// Whether upstream responded 503.
    #[must_use]
    pub fn is_unavailable(self) -> bool {
        matches!(self, Self::Responded(StatusCode::SERVICE_UNAVAILABLE, _))
    }

    /// Whether upstream responded 429, which says nothing about its health.
    #[must_use]
    pub fn is_throttled(self) -> bool {
        matches!(self, Self::Responded(StatusCode::TOO_MANY_REQUESTS, _))
    }
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The outcome stands.
    Final,
    /// Another attempt, after this wait.
    RetryAfter(Duration),
}

/// What a call has used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryState {
    /// Attempts that count towards the limit.
    pub attempts: u32,
    /// Attempts that got a 503.
    pub unavailable: u32,
    /// Time left until the deadline.
    pub left: Duration,
    /// Whether the last attempt got a 429 and the limits learn from it. They then pause
    /// the skill, admit this call before new ones, and refuse it if the wait exceeds
    /// its deadline. So there is no wait here, and the attempt does not count.
    pub paced: bool,
}

impl RetryState {
    /// The state after one more attempt. `learns` tells whether the limits learn from
    /// a 429.
    #[must_use]
    pub fn after(self, outcome: AttemptOutcome, learns: bool, left: Duration) -> Self {
        let paced = learns && outcome.is_throttled();
        Self {
            attempts: self.attempts + u32::from(!paced),
            unavailable: self.unavailable + u32::from(outcome.is_unavailable()),
            left,
            paced,
        }
    }
}

/// Judges the outcome of the last attempt. `draw` is in `0.0..1.0`.
#[must_use]
pub fn verdict(policy: &Policy, state: RetryState, outcome: AttemptOutcome, draw: f64) -> Verdict {
    // An attempt that does not count is no retry where only one is allowed.
    let attempts = if state.paced { 1 } else { state.attempts };
    if attempts >= policy.max_attempts.get() || !is_worth_retrying(outcome, state) {
        return Verdict::Final;
    }
    if state.paced {
        return Verdict::RetryAfter(Duration::ZERO);
    }
    let backoff = backoff(policy, state.attempts).mul_f64(draw);
    let wait = match outcome {
        // With jitter, because other callers were told the same.
        AttemptOutcome::Responded(_, Some(retry_after)) => retry_after.saturating_add(backoff),
        _ => backoff,
    };
    if wait < state.left {
        Verdict::RetryAfter(wait)
    } else {
        Verdict::Final
    }
}

fn is_worth_retrying(outcome: AttemptOutcome, state: RetryState) -> bool {
    match outcome {
        // Amazon advises to retry 429 and 500 and does not mention 503: one retry, in
        // case a single node behind the load balancer is overloaded.
        _ if outcome.is_unavailable() => state.unavailable <= 1,
        AttemptOutcome::Responded(status, _) => matches!(status.as_u16(), 429 | 500 | 502 | 504),
        AttemptOutcome::Failed(kind) => matches!(
            kind,
            Kind::Dns
                | Kind::Connect
                | Kind::ConnectTimeout
                | Kind::AnswerLost
                | Kind::AnswerTimeout
        ),
    }
}

/// The longest wait after the given attempt: doubled each time, and capped.
fn backoff(policy: &Policy, attempt: u32) -> Duration {
    let doubled = policy
        .base_backoff
        .saturating_mul(2u32.saturating_pow(attempt - 1));
    doubled.min(policy.max_backoff)
}

/// Parses `Retry-After`, a number of seconds or a date (RFC 9110 §10.2.3).
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(
            value.parse().unwrap_or(u64::from(u32::MAX)),
        ));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn policy() -> Policy {
        Policy {
            max_attempts: 3.try_into().unwrap(),
            base_backoff: 50 * MS,
            max_backoff: 1000 * MS,
        }
    }

    fn judge(attempts: u32, left: Duration, outcome: AttemptOutcome, draw: f64) -> Verdict {
        let unavailable = u32::from(outcome == responded(503)) * attempts;
        verdict(
            &policy(),
            RetryState {
                attempts,
                unavailable,
                left,
                paced: false,
            },
            outcome,
            draw,
        )
    }

    fn responded(status: u16) -> AttemptOutcome {
        AttemptOutcome::Responded(StatusCode::from_u16(status).unwrap(), None)
    }

    #[test]
    fn transient_outcomes_are_retried() {
        for outcome in [
            responded(429),
            responded(500),
            responded(502),
            responded(503),
            responded(504),
            AttemptOutcome::Failed(Kind::Connect),
            AttemptOutcome::Failed(Kind::AnswerLost),
            AttemptOutcome::Failed(Kind::AnswerTimeout),
        ] {
            let verdict = judge(1, 2500 * MS, outcome, 0.5);
            assert_eq!(verdict, Verdict::RetryAfter(25 * MS), "{outcome:?}");
        }
    }

    #[test]
    fn permanent_outcomes_stand() {
        for status in [200, 204, 302, 400, 401, 403, 404, 501, 505] {
            assert_eq!(
                judge(1, 2500 * MS, responded(status), 0.5),
                Verdict::Final,
                "{status}"
            );
        }
        for kind in [Kind::Tls, Kind::AnswerTooLarge, Kind::Quota, Kind::Deadline] {
            assert_eq!(
                judge(1, 2500 * MS, AttemptOutcome::Failed(kind), 0.5),
                Verdict::Final
            );
        }
    }

    #[test]
    fn three_attempts_are_made_but_a_503_is_retried_once() {
        assert!(matches!(
            judge(2, 2500 * MS, responded(500), 0.5),
            Verdict::RetryAfter(_)
        ));
        assert_eq!(judge(3, 2500 * MS, responded(500), 0.5), Verdict::Final);
        assert_eq!(judge(2, 2500 * MS, responded(503), 0.5), Verdict::Final);
    }

    #[test]
    fn the_wait_doubles_up_to_its_cap() {
        let most = |attempt| backoff(&policy(), attempt).as_millis();
        assert_eq!(
            [1, 2, 3, 5, 6, 99].map(most),
            [50, 100, 200, 800, 1000, 1000]
        );
    }

    #[test]
    fn retry_after_is_honoured_within_the_deadline_only() {
        let asked = |wait| AttemptOutcome::Responded(StatusCode::TOO_MANY_REQUESTS, Some(wait));
        assert_eq!(
            judge(1, 2500 * MS, asked(1000 * MS), 0.5),
            Verdict::RetryAfter(1025 * MS)
        );
        assert_eq!(judge(1, 2500 * MS, asked(3000 * MS), 0.5), Verdict::Final);
    }

    #[test]
    fn a_429_is_left_to_limits_that_pace_it() {
        let judge = |attempts, max_attempts: u32| {
            let policy = Policy {
                max_attempts: max_attempts.try_into().unwrap(),
                ..policy()
            };
            let state = RetryState {
                attempts,
                unavailable: 0,
                left: 10 * MS,
                paced: true,
            };
            let asked = AttemptOutcome::Responded(StatusCode::TOO_MANY_REQUESTS, Some(1000 * MS));
            verdict(&policy, state, asked, 0.5)
        };
        assert_eq!(judge(3, 3), Verdict::RetryAfter(Duration::ZERO));
        assert_eq!(judge(1, 1), Verdict::Final, "one attempt means one attempt");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
            retry_after(&headers, now)
        };
        assert_eq!(read("2"), Some(2000 * MS));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:40 GMT"), Some(3000 * MS));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:30 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "-1", "1.5", "soon"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
