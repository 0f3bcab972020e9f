//! When to try again, and how long to wait before.
//!
//! Exponential back-off with full jitter (M. Brooker, "Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015). Pure: the draw of the dice is passed in.
//! Only GETs of cached templates come here; nothing else is ever retried.

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
pub enum Outcome {
    /// With an answer, which may say when to try again.
    Answered(StatusCode, Option<Duration>),
    /// Without one.
    Failed(Kind),
}

impl Outcome {
    /// Whether it is the one answer that is tried again only once.
    #[must_use]
    pub fn is_unavailable(self) -> bool {
        matches!(self, Self::Answered(StatusCode::SERVICE_UNAVAILABLE, _))
    }

    /// Whether a skill was throttled, which says nothing about upstream's health.
    #[must_use]
    pub fn is_throttled(self) -> bool {
        matches!(self, Self::Answered(StatusCode::TOO_MANY_REQUESTS, _))
    }
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The outcome stands.
    Final,
    /// Another attempt, after this wait.
    RetryAfter(Duration),
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many attempts were made that count, this one included.
    pub attempts: u32,
    /// How many of them were answered 503, this one included.
    pub unavailable: u32,
    /// How much time is left until the deadline.
    pub left: Duration,
    /// Whether the limits pace a skill that was throttled. Then a 429 is no reason
    /// to wait here and does not count: they pause the skill, let this request in
    /// before those that are new, and refuse it where that does not fit its
    /// deadline.
    pub paced: bool,
}

/// Decides about one attempt's outcome. `draw` is in `0.0..1.0`.
#[must_use]
pub fn verdict(policy: &Policy, tally: Tally, outcome: Outcome, draw: f64) -> Verdict {
    let attempts = match tally.paced && outcome.is_throttled() {
        // Whoever wants one attempt gets one.
        true => 1,
        false => tally.attempts,
    };
    if attempts >= policy.max_attempts.get() || !is_worth_retrying(outcome, tally) {
        return Verdict::Final;
    }
    if tally.paced && outcome.is_throttled() {
        return Verdict::RetryAfter(Duration::ZERO);
    }
    let backoff = backoff(policy, tally.attempts).mul_f64(draw);
    let wait = match outcome {
        // Jitter on top, for others were told the same.
        Outcome::Answered(_, Some(asked)) => asked.saturating_add(backoff),
        _ => backoff,
    };
    match wait < tally.left {
        true => Verdict::RetryAfter(wait),
        false => Verdict::Final,
    }
}

fn is_worth_retrying(outcome: Outcome, tally: Tally) -> bool {
    match outcome {
        // Amazon's page advises to retry 429 and 500, and says nothing of 503:
        // once, for a single overloaded node behind the balancer.
        _ if outcome.is_unavailable() => tally.unavailable <= 1,
        Outcome::Answered(status, _) => matches!(status.as_u16(), 429 | 500 | 502 | 504),
        Outcome::Failed(kind) => matches!(
            kind,
            Kind::Dns
                | Kind::Connect
                | Kind::ConnectTimeout
                | Kind::AnswerLost
                | Kind::AnswerTimeout
        ),
    }
}

/// The most to wait after the given attempt: doubled each time, and capped.
fn backoff(policy: &Policy, attempt: u32) -> Duration {
    let doubled = policy
        .base_backoff
        .saturating_mul(2u32.saturating_pow(attempt - 1));
    doubled.min(policy.max_backoff)
}

/// Reads `Retry-After` in both of its forms (RFC 9110 §10.2.3).
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

    fn judge(attempts: u32, left: Duration, outcome: Outcome, draw: f64) -> Verdict {
        let unavailable = u32::from(outcome == answered(503)) * attempts;
        verdict(
            &policy(),
            Tally {
                attempts,
                unavailable,
                left,
                paced: false,
            },
            outcome,
            draw,
        )
    }

    fn answered(status: u16) -> Outcome {
        Outcome::Answered(StatusCode::from_u16(status).unwrap(), None)
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for outcome in [
            answered(429),
            answered(500),
            answered(502),
            answered(503),
            answered(504),
            Outcome::Failed(Kind::Connect),
            Outcome::Failed(Kind::AnswerLost),
            Outcome::Failed(Kind::AnswerTimeout),
        ] {
            let verdict = judge(1, 2500 * MS, outcome, 0.5);
            assert_eq!(verdict, Verdict::RetryAfter(25 * MS), "{outcome:?}");
        }
    }

    #[test]
    fn what_will_not_pass_stands() {
        for status in [200, 204, 302, 400, 401, 403, 404, 501, 505] {
            assert_eq!(
                judge(1, 2500 * MS, answered(status), 0.5),
                Verdict::Final,
                "{status}"
            );
        }
        for kind in [Kind::Tls, Kind::AnswerTooLarge, Kind::Quota, Kind::Deadline] {
            assert_eq!(
                judge(1, 2500 * MS, Outcome::Failed(kind), 0.5),
                Verdict::Final
            );
        }
    }

    #[test]
    fn there_are_three_attempts_and_one_more_for_503() {
        assert!(matches!(
            judge(2, 2500 * MS, answered(500), 0.5),
            Verdict::RetryAfter(_)
        ));
        assert_eq!(judge(3, 2500 * MS, answered(500), 0.5), Verdict::Final);
        assert_eq!(judge(2, 2500 * MS, answered(503), 0.5), Verdict::Final);
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
    fn retry_after_is_honoured_inside_the_deadline_only() {
        let asked = |wait| Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, Some(wait));
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
            let tally = Tally {
                attempts,
                unavailable: 0,
                left: 10 * MS,
                paced: true,
            };
            let asked = Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, Some(1000 * MS));
            verdict(&policy, tally, asked, 0.5)
        };
        assert_eq!(judge(3, 3), Verdict::RetryAfter(Duration::ZERO));
        assert_eq!(judge(1, 1), Verdict::Final, "one attempt is one attempt");
    }

    #[test]
    fn retry_after_has_two_forms() {
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
