//! The responses of the mock, with Alexa's own bodies where they are documented or
//! have been observed. Values only; `body` sends them.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::response::{Builder, Response};
use serde_json::{Value, json};

use super::scenario::TokenScenario;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

/// A status, its header fields and its body.
#[derive(Clone, Debug)]
pub(super) struct MockResponse {
    pub(super) status: StatusCode,
    content_type: Option<HeaderValue>,
    retry_after: Option<String>,
    pub(super) body: Bytes,
}

impl MockResponse {
    pub(super) fn json(value: Value) -> Self {
        Self::new(StatusCode::OK, Some(JSON), value.to_string())
    }

    pub(super) fn no_content() -> Self {
        Self::new(StatusCode::NO_CONTENT, None, String::new())
    }

    pub(super) fn unauthorized(why: &str) -> Self {
        Self::refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", why)
    }

    pub(super) fn not_found() -> Self {
        Self::refusal(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "The resource was not found.",
        )
    }

    pub(super) fn bad_request(code: &str, why: &str) -> Self {
        Self::refusal(StatusCode::BAD_REQUEST, code, why)
    }

    pub(super) fn throttled(retry_after: Option<String>) -> Self {
        let why = "The skill has been throttled.";
        let refusal = Self::refusal(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", why);
        Self {
            retry_after,
            ..refusal
        }
    }

    pub(super) fn error() -> Self {
        let why = "An unexpected error occurred.";
        Self::refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", why)
    }

    pub(super) fn unavailable() -> Self {
        let why = "The service is down for maintenance.";
        Self::refusal(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", why)
    }

    /// The response of the content delivery network before Alexa to a GET with a body.
    pub(super) fn blocked() -> Self {
        let page = "<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD>\
                    <BODY><H1>403 ERROR</H1><H2>The request could not be satisfied.</H2>Bad request.\
                    </BODY></HTML>\n";
        Self::new(StatusCode::FORBIDDEN, Some(HTML), page.to_owned())
    }

    /// The log-in page of a captive portal.
    pub(super) fn captive_portal() -> Self {
        let page = "<!doctype html><title>Welcome</title><p>Please sign in to use this network.\n";
        Self::new(StatusCode::OK, Some(HTML), page.to_owned())
    }

    /// Returns the response that a token's scenario asks for; `None` is the value.
    /// `throttled` builds the response to a throttled skill.
    pub(super) fn to(scenario: TokenScenario, throttled: impl FnOnce() -> Self) -> Option<Self> {
        let denied = |reason: &str| {
            let why = format!("Access denied with reason: {reason}");
            Self::refusal(StatusCode::FORBIDDEN, "ACCESS_DENIED", &why)
        };
        Some(match scenario {
            TokenScenario::Ok => return None,
            TokenScenario::NoConsent => denied("ACCESS_NOT_REQUESTED"),
            TokenScenario::Forbidden => denied("FORBIDDEN"),
            TokenScenario::NoValue => Self::no_content(),
            TokenScenario::Unauthorized => Self::unauthorized("The token is not valid."),
            TokenScenario::NotFound => Self::not_found(),
            TokenScenario::Throttled => throttled(),
            TokenScenario::Error => Self::error(),
            TokenScenario::Unavailable => Self::unavailable(),
            TokenScenario::BadRequest => {
                let why = "The property is outside the allowed range.";
                Self::bad_request("INVALID_STRING_LENGTH", why)
            }
        })
    }

    /// Starts the response; the caller adds the body.
    pub(super) fn head(&self) -> Builder {
        let mut head = Response::builder().status(self.status);
        if let Some(kind) = &self.content_type {
            head = head.header(CONTENT_TYPE, kind);
        }
        if let Some(when) = &self.retry_after {
            head = head.header(RETRY_AFTER, when);
        }
        head
    }

    fn refusal(status: StatusCode, code: &str, message: &str) -> Self {
        let body = json!({"code": code, "message": message});
        Self::new(status, Some(JSON), body.to_string())
    }

    fn new(status: StatusCode, content_type: Option<HeaderValue>, body: String) -> Self {
        let body = Bytes::from(body);
        let retry_after = None;
        Self {
            status,
            content_type,
            retry_after,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    fn text(scenario: TokenScenario) -> (u16, String) {
        let answer = MockResponse::to(scenario, || MockResponse::throttled(None)).unwrap();
        (
            answer.status.as_u16(),
            String::from_utf8(answer.body.to_vec()).unwrap(),
        )
    }

    #[test]
    fn refusals_are_worded_as_alexa_words_them() {
        let denied = r#"{"code":"ACCESS_DENIED","message":"Access denied with reason: "#;
        let (status, body) = text(TokenScenario::NoConsent);
        assert_eq!(
            (status, body),
            (403, format!(r#"{denied}ACCESS_NOT_REQUESTED"}}"#))
        );
        assert_eq!(
            text(TokenScenario::Forbidden).1,
            format!(r#"{denied}FORBIDDEN"}}"#)
        );
        let (status, body) = text(TokenScenario::BadRequest);
        assert_eq!(status, 400);
        assert!(body.contains(r#""message":"The property is outside the allowed range.""#));
    }

    #[test]
    fn every_scenario_has_its_status() {
        let statuses = TokenScenario::iter()
            .skip(1)
            .map(|scenario| text(scenario).0);
        let documented = [403, 403, 204, 401, 404, 429, 500, 503, 400];
        assert!(statuses.eq(documented));
    }
}
