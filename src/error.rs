//! Every way to say no, and the only place that turns one into a status.
//!
//! A body is JSON in the shape that the Alexa SDKs understand, so that a skill
//! sees a `ServiceError` with a status rather than a parser's complaint. What
//! really happened is said in `Proxy-Status` (RFC 9209), which also tells our
//! refusals from Alexa's: an answer without it is Alexa's own.
//!
//! | kind | status | `Proxy-Status` error | counted as |
//! |---|---|---|---|
//! | the request is not acceptable | 400, 408, 413, 421, 501 | `http_request_error` | `bad_request`, … |
//! | it was not sent: quota, queue, waiters | 429, 503 | `proxy_internal_response` | `quota`, … |
//! | it was not sent: the region fails | 503 | `destination_unavailable` | `breaker_open` |
//! | Alexa could not be reached | 502, 504 | `connection_refused`, … | `connect`, … |
//! | Alexa's answer was lost, late, or too large | 502, 504 | `http_response_…` | `answer_lost`, … |

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

/// `Proxy-Status` (RFC 9209).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What went wrong. The label is the same in logs, metrics and the status page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request breaks a rule of HTTP or of the gateway.
    BadRequest,
    /// The request has a body where none belongs, and it is too large to drop.
    BodyTooLarge,
    /// The request's body did not come in time.
    RequestTimeout,
    /// The request asks for something that a gateway need not do.
    NotImplemented,
    /// The request names a host outside the region table.
    Misdirected,
    /// `only-if-cached`, and nothing usable is stored.
    NotCached,
    /// Waiting for the quota would take longer than the deadline.
    Quota,
    /// The queue for the quota is full.
    QueueFull,
    /// Too many requests wait for calls in flight.
    TooManyWaiters,
    /// The region fails, and calls to it are held back.
    BreakerOpen,
    /// The upstream's name could not be resolved.
    Dns,
    /// No connection to the upstream.
    Connect,
    /// No connection to the upstream in time.
    ConnectTimeout,
    /// The upstream's certificate or TLS was not acceptable.
    Tls,
    /// The connection broke before the whole answer was there.
    AnswerLost,
    /// The answer is none that HTTP allows here.
    BadAnswer,
    /// The answer is larger than the gateway keeps whole.
    AnswerTooLarge,
    /// No whole answer in time.
    AnswerTimeout,
    /// The request's deadline has passed.
    Deadline,
    /// Every caller had left before the call was sent.
    Abandoned,
    /// A defect of the gateway.
    Internal,
}

impl Kind {
    /// Every kind, for metrics that exist from the start.
    pub const ALL: [Self; 21] = [
        Self::BadRequest,
        Self::BodyTooLarge,
        Self::RequestTimeout,
        Self::NotImplemented,
        Self::Misdirected,
        Self::NotCached,
        Self::Quota,
        Self::QueueFull,
        Self::TooManyWaiters,
        Self::BreakerOpen,
        Self::Dns,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Tls,
        Self::AnswerLost,
        Self::BadAnswer,
        Self::AnswerTooLarge,
        Self::AnswerTimeout,
        Self::Deadline,
        Self::Abandoned,
        Self::Internal,
    ];

    /// Label, status and RFC 9209 §2.3 error type of each kind: the one table.
    fn row(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest => ("bad_request", S::BAD_REQUEST, "http_request_error"),
            Self::BodyTooLarge => ("body_too_large", S::PAYLOAD_TOO_LARGE, "http_request_error"),
            Self::RequestTimeout => ("request_timeout", S::REQUEST_TIMEOUT, "http_request_error"),
            Self::NotImplemented => ("not_implemented", S::NOT_IMPLEMENTED, "http_request_error"),
            Self::Misdirected => ("misdirected", S::MISDIRECTED_REQUEST, "http_request_error"),
            Self::NotCached => ("not_cached", S::GATEWAY_TIMEOUT, "proxy_internal_response"),
            Self::Quota => ("quota", S::TOO_MANY_REQUESTS, "proxy_internal_response"),
            Self::QueueFull => (
                "queue_full",
                S::TOO_MANY_REQUESTS,
                "proxy_internal_response",
            ),
            Self::TooManyWaiters => (
                "too_many_waiters",
                S::SERVICE_UNAVAILABLE,
                "proxy_internal_response",
            ),
            Self::BreakerOpen => (
                "breaker_open",
                S::SERVICE_UNAVAILABLE,
                "destination_unavailable",
            ),
            Self::Dns => ("dns", S::BAD_GATEWAY, "dns_error"),
            Self::Connect => ("connect", S::BAD_GATEWAY, "connection_refused"),
            Self::ConnectTimeout => ("connect_timeout", S::GATEWAY_TIMEOUT, "connection_timeout"),
            Self::Tls => ("tls", S::BAD_GATEWAY, "tls_protocol_error"),
            Self::AnswerLost => ("answer_lost", S::BAD_GATEWAY, "http_response_incomplete"),
            Self::BadAnswer => ("bad_answer", S::BAD_GATEWAY, "http_protocol_error"),
            Self::AnswerTooLarge => (
                "answer_too_large",
                S::BAD_GATEWAY,
                "http_response_body_size",
            ),
            Self::AnswerTimeout => (
                "answer_timeout",
                S::GATEWAY_TIMEOUT,
                "http_response_timeout",
            ),
            Self::Deadline => ("deadline", S::GATEWAY_TIMEOUT, "http_response_timeout"),
            Self::Abandoned => (
                "abandoned",
                S::SERVICE_UNAVAILABLE,
                "proxy_internal_response",
            ),
            Self::Internal => ("internal", S::INTERNAL_SERVER_ERROR, "proxy_internal_error"),
        }
    }

    /// The word for logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.row().0
    }

    /// Whether the request was refused without a call being tried.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::Quota
                | Self::QueueFull
                | Self::TooManyWaiters
                | Self::BreakerOpen
                | Self::Abandoned
        )
    }

    /// The status that a client sees.
    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().1
    }
}

/// One failure: its kind, what was being done in plain words, and when to try
/// again. Holds nothing of a token, a person or an upstream body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl Error {
    /// A failure of the given kind. `message` is a lowercase fragment that says
    /// what was being done, and goes to the client as it is.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same failure, with a time to try again after.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The answer that tells a client.
    #[must_use]
    pub fn to_response(&self) -> Response<Bytes> {
        let (_, status, error_type) = self.kind.row();
        let body = serde_json::json!({ "code": "UNKNOWN_ERROR", "message": self.to_string() });
        let body = Bytes::from(body.to_string());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let length = response.body().len();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PROXY_STATUS, self.proxy_status(error_type));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, whole_seconds(wait).into());
        }
        response
    }

    fn proxy_status(&self, error_type: &str) -> HeaderValue {
        // A structured string (RFC 8941 §3.3.3) holds printable ASCII.
        let details: String = self
            .message
            .chars()
            .filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\'))
            .collect();
        HeaderValue::try_from(format!(
            "alexa-gateway; error={error_type}; details=\"{details}\""
        ))
        .unwrap_or_else(|_| HeaderValue::from_static("alexa-gateway"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alexa-gateway: {}", self.message)
    }
}

impl std::error::Error for Error {}

/// `Retry-After` counts whole seconds (RFC 9110 §10.2.3): up, and at least one.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    let up = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(up).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_json_that_an_sdk_can_read() {
        let error = Error::new(Kind::Quota, "quota of the skill: next free in 1.2s")
            .retry_after(Duration::from_millis(1200));
        let response = error.to_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(
            response.headers()[CONTENT_LENGTH],
            response.body().len().to_string()
        );
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["code"], "UNKNOWN_ERROR");
        assert_eq!(
            body["message"],
            "alexa-gateway: quota of the skill: next free in 1.2s"
        );
    }

    #[test]
    fn proxy_status_is_a_structured_field_whatever_the_message() {
        let error = Error::new(Kind::BadRequest, "a \"quote\" \\ and é\n");
        assert_eq!(
            error.to_response().headers()[PROXY_STATUS],
            "alexa-gateway; error=http_request_error; details=\"a quote  and \""
        );
    }

    #[test]
    fn every_kind_has_a_label_of_its_own_and_an_error_status() {
        let labels: std::collections::HashSet<_> = Kind::ALL.iter().map(|k| k.label()).collect();
        assert_eq!(labels.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
        }
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
