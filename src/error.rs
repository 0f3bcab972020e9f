//! Every error that a client can see, and the only place that gives it a status.
//!
//! The body is JSON in the shape that the Alexa SDKs parse, so that a skill gets a
//! `ServiceError` with a status. `Proxy-Status` (RFC 9209) says what happened and
//! tells the gateway's own errors from Alexa's: a response without it is Alexa's.
//!
//! | kind | status | `Proxy-Status` error | metric label |
//! |---|---|---|---|
//! | the request is not acceptable | 400, 408, 413, 421, 501 | `http_request_error` | `bad_request`, … |
//! | not sent: quota, queue, waiters | 429, 503 | `proxy_internal_response` | `quota`, … |
//! | not sent: the region fails | 503 | `destination_unavailable` | `breaker_open` |
//! | no connection to Alexa | 502, 504 | `connection_refused`, `dns_error`, … | `connect`, … |
//! | Alexa's response is lost, late or too large | 502, 504 | `http_response_…` | `answer_lost`, … |
//!
//! A message says what was being done. It never holds a token, personal data, or
//! text from an upstream body or error: the cause stays in [`Error::source`], for logs.

mod proxy_status;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use strum::VariantArray;

pub use proxy_status::ErrorType;

/// `Proxy-Status` (RFC 9209).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What went wrong. The label is the same in logs, metrics and the status page.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, strum::EnumCount, strum::IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// The request violates a rule of HTTP or of the gateway.
    BadRequest,
    /// The request has a body that it should not have, too large to discard.
    BodyTooLarge,
    /// The request body did not arrive in time.
    RequestTimeout,
    /// The request asks for an optional feature of HTTP that the gateway lacks.
    NotImplemented,
    /// The request names a host that is no Alexa region.
    Misdirected,
    /// `only-if-cached`, and no usable response is stored.
    NotCached,
    /// The wait for the quota would exceed the deadline.
    Quota,
    /// The queue for the quota is full.
    QueueFull,
    /// Too many requests wait for calls in flight.
    TooManyWaiters,
    /// The breaker of the region is open.
    BreakerOpen,
    /// The upstream host name could not be resolved.
    Dns,
    /// No connection to upstream.
    Connect,
    /// No connection to upstream in time.
    ConnectTimeout,
    /// The TLS handshake with upstream failed.
    Tls,
    /// The connection broke before the response was complete.
    AnswerLost,
    /// The response is not allowed here.
    BadAnswer,
    /// The response is larger than the gateway buffers.
    AnswerTooLarge,
    /// The response was not complete in time.
    AnswerTimeout,
    /// The deadline of the request has passed.
    Deadline,
    /// All callers left before the call was sent.
    Abandoned,
    /// A bug in the gateway.
    Internal,
}

impl Kind {
    /// Every kind, for metrics that exist from the start.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Status and default error type of each kind: the one table.
    fn row(self) -> (StatusCode, ErrorType) {
        use ErrorType as E;
        use StatusCode as S;
        match self {
            Self::BadRequest => (S::BAD_REQUEST, E::HttpRequestError),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, E::HttpRequestError),
            Self::RequestTimeout => (S::REQUEST_TIMEOUT, E::HttpRequestError),
            Self::NotImplemented => (S::NOT_IMPLEMENTED, E::HttpRequestError),
            Self::Misdirected => (S::MISDIRECTED_REQUEST, E::HttpRequestError),
            Self::NotCached => (S::GATEWAY_TIMEOUT, E::ProxyInternalResponse),
            Self::Quota => (S::TOO_MANY_REQUESTS, E::ProxyInternalResponse),
            Self::QueueFull => (S::TOO_MANY_REQUESTS, E::ProxyInternalResponse),
            Self::TooManyWaiters => (S::SERVICE_UNAVAILABLE, E::ProxyInternalResponse),
            Self::BreakerOpen => (S::SERVICE_UNAVAILABLE, E::DestinationUnavailable),
            Self::Dns => (S::BAD_GATEWAY, E::DnsError),
            Self::Connect => (S::BAD_GATEWAY, E::ConnectionRefused),
            Self::ConnectTimeout => (S::GATEWAY_TIMEOUT, E::ConnectionTimeout),
            Self::Tls => (S::BAD_GATEWAY, E::TlsProtocolError),
            Self::AnswerLost => (S::BAD_GATEWAY, E::HttpResponseIncomplete),
            Self::BadAnswer => (S::BAD_GATEWAY, E::HttpProtocolError),
            Self::AnswerTooLarge => (S::BAD_GATEWAY, E::HttpResponseBodySize),
            Self::AnswerTimeout => (S::GATEWAY_TIMEOUT, E::HttpResponseTimeout),
            Self::Deadline => (S::GATEWAY_TIMEOUT, E::HttpResponseTimeout),
            Self::Abandoned => (S::SERVICE_UNAVAILABLE, E::ProxyInternalResponse),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, E::ProxyInternalError),
        }
    }

    /// The label in logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// Whether the request was refused before any attempt.
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
        self.row().0
    }

    /// The error type in `Proxy-Status`, unless the failure names a more precise one.
    #[must_use]
    pub fn error_type(self) -> ErrorType {
        self.row().1
    }
}

/// The error that caused another. Shared, because every waiter of a flight gets it.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// One error: its kind, what was being done, and when to try again.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    error_type: ErrorType,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
    cause: Option<Cause>,
}

impl Error {
    /// An error of the given kind. `message` is a lowercase fragment that says what
    /// was being done; clients see it.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            error_type: kind.error_type(),
            message: message.into(),
            retry_after: None,
            cause: None,
        }
    }

    /// Adds the time after which a client may try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds the cause, and the error type that it implies.
    #[must_use]
    pub fn caused_by(mut self, error_type: ErrorType, cause: Option<Cause>) -> Self {
        self.error_type = error_type;
        self.cause = cause;
        self
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The response that tells the client.
    #[must_use]
    pub fn to_response(&self) -> Response<Bytes> {
        let body = serde_json::json!({ "code": "UNKNOWN_ERROR", "message": self.to_string() });
        let body = Bytes::from(body.to_string());
        let mut response = Response::new(body);
        *response.status_mut() = self.kind.status();
        let length = response.body().len();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length.into());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PROXY_STATUS, self.error_type.header(&self.message));
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, whole_seconds(wait).into());
        }
        response
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "alexa-gateway: {}", self.message)
    }
}

// By hand: thiserror would give the `Arc` as the source, which hides the cause's type.
impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// `Retry-After` counts whole seconds (RFC 9110 §10.2.3): rounded up, at least one.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    let up = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(up).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_json_that_an_sdk_can_parse() {
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
    fn proxy_status_names_the_kind_unless_the_cause_is_more_precise() {
        let error = Error::new(Kind::AnswerLost, "upstream eu");
        let of = |error: &Error| error.to_response().headers()[PROXY_STATUS].clone();
        let start = "alexa-gateway; error=";
        let end = "; details=\"upstream eu\"";
        assert_eq!(of(&error), format!("{start}http_response_incomplete{end}"));
        let cause: Cause = Arc::new(fmt::Error);
        let error = error.caused_by(ErrorType::ConnectionTerminated, Some(cause));
        assert_eq!(of(&error), format!("{start}connection_terminated{end}"));
        assert!(error.source().unwrap().is::<fmt::Error>());
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
