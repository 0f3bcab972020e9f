//! Which requests are acceptable, and which of their parts are for the gateway
//! itself.
//!
//! [`Caller::take`] checks a request and removes the token, the gateway's own
//! headers and the hop-by-hop headers from it. The rest goes upstream unchanged.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, MAX_FORWARDS, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Kind};
use crate::headers::{API_ENDPOINT, HOP_BY_HOP, TIMEOUT_MS, strip_hop_by_hop};
use crate::token::{BearerToken, TokenError};

/// The parts of a request that are for the gateway.
#[derive(Debug)]
pub struct Caller {
    /// The credentials, if the scheme is `Bearer`.
    pub token: Option<BearerToken>,
    /// The value of [`API_ENDPOINT`].
    pub api_endpoint: Option<String>,
    /// The value of [`TIMEOUT_MS`].
    pub timeout: Option<Duration>,
    /// `Host`, or `:authority` of HTTP/2: visible ASCII.
    pub host: Option<HeaderValue>,
    /// The authority of an absolute-form request target (RFC 9112 §3.2.2).
    pub absolute_form: Option<String>,
}

impl Caller {
    /// Checks a request, and removes the headers for the gateway and for this hop.
    ///
    /// # Errors
    /// The request cannot be forwarded safely; the error says why.
    pub fn take(parts: &mut Parts) -> Result<Self, Error> {
        let bad = |message: &'static str| Error::new(Kind::BadRequest, message);
        if parts.method == Method::CONNECT {
            return Err(bad(
                "CONNECT is not supported: this is a gateway, not a tunnel",
            ));
        }
        let found = HeaderScan::of(&parts.headers);
        // RFC 9112 §3.2: without exactly one Host, the target is ambiguous.
        if found.hosts > 1 || (found.hosts == 0 && parts.version == Version::HTTP_11) {
            return Err(bad("an HTTP/1.1 request must have exactly one Host header"));
        }
        if found.unknown_coding {
            // RFC 9112 §6.1: the header is hop-by-hop, so a coding that the gateway does
            // not decode cannot be forwarded.
            let message = "unsupported Transfer-Encoding: only chunked is";
            return Err(Error::new(Kind::NotImplemented, message));
        }
        count_forwards(parts)?;
        let token = BearerToken::take(&mut parts.headers).map_err(|error| match error {
            TokenError::Repeated => bad("more than one Authorization header"),
            TokenError::TooLong => bad("the Authorization header has more than 8192 bytes"),
        })?;
        let mut host = parts.headers.remove(HOST);
        let mut absolute_form = None;
        if let Some(authority) = parts.uri.authority() {
            match parts.version {
                Version::HTTP_2 => host = HeaderValue::from_str(authority.as_str()).ok(),
                _ => absolute_form = Some(authority.to_string()),
            }
        }
        if let Some(host) = &host {
            let text = host.to_str();
            if !is_authority(text.map_err(|_| bad("the Host header is not visible ASCII"))?) {
                return Err(bad("the Host header is not a host and an optional port"));
            }
        }
        let (mut api_endpoint, mut timeout) = (None, None);
        if found.own {
            let value = take_one(&mut parts.headers, &API_ENDPOINT)?;
            api_endpoint = text_of(value).map_err(|()| {
                let message = "the Alexa-Api-Endpoint header is not visible ASCII";
                Error::new(Kind::Misdirected, message)
            })?;
            let value = take_one(&mut parts.headers, &TIMEOUT_MS)?;
            let text = text_of(value).map_err(|()| bad(BAD_TIMEOUT))?;
            timeout = text.map(|text| milliseconds(&text)).transpose()?;
        }
        if found.hop_by_hop {
            strip_hop_by_hop(&mut parts.headers);
        }
        Ok(Self {
            token,
            api_endpoint,
            timeout,
            host,
            absolute_form,
        })
    }
}

/// The result of one pass over the headers. Most requests have `Host` and
/// `Authorization` only, and then nothing has to be looked up and removed.
#[derive(Default)]
struct HeaderScan {
    hosts: usize,
    /// [`API_ENDPOINT`] or [`TIMEOUT_MS`] is present.
    own: bool,
    /// One of [`HOP_BY_HOP`] is present.
    hop_by_hop: bool,
    /// A transfer coding other than `chunked`.
    unknown_coding: bool,
}

impl HeaderScan {
    fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for (name, value) in headers {
            if name == HOST {
                found.hosts += 1;
            } else if name == API_ENDPOINT || name == TIMEOUT_MS {
                found.own = true;
            } else if HOP_BY_HOP.contains(name) {
                found.hop_by_hop = true;
                let coding = value.as_bytes().trim_ascii();
                found.unknown_coding |=
                    name == TRANSFER_ENCODING && !coding.eq_ignore_ascii_case(b"chunked");
            }
        }
        found
    }
}

/// A host and an optional port (RFC 9110 §4.2.3). Empty is valid for a target
/// without an authority (RFC 9112 §3.2).
fn is_authority(host: &str) -> bool {
    // Fast path: plain names need no parser.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    host.bytes().all(is_plain) || (!host.contains('@') && host.parse::<Authority>().is_ok())
}

/// Decrements `Max-Forwards` of TRACE and OPTIONS; a request with zero must not be
/// forwarded (RFC 9110 §7.6.2).
fn count_forwards(parts: &mut Parts) -> Result<(), Error> {
    if !matches!(parts.method, Method::TRACE | Method::OPTIONS) {
        return Ok(());
    }
    let left = parts
        .headers
        .get(MAX_FORWARDS)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    match left {
        Some(0_u64) => Err(Error::new(
            Kind::NotImplemented,
            "Max-Forwards is 0, and the gateway does not answer this method itself",
        )),
        Some(left) => {
            parts.headers.insert(MAX_FORWARDS, (left - 1).into());
            Ok(())
        }
        None => Ok(()),
    }
}

const BAD_TIMEOUT: &str =
    "Alexa-Gateway-Timeout-Ms must be a whole number of milliseconds, at least 1";

fn milliseconds(text: &str) -> Result<Duration, Error> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        Ok(millis) if digits && millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(Error::new(Kind::BadRequest, BAD_TIMEOUT)),
    }
}

fn take_one(headers: &mut HeaderMap, name: &HeaderName) -> Result<Option<HeaderValue>, Error> {
    if headers.get_all(name).iter().count() > 1 {
        return Err(Error::new(
            Kind::BadRequest,
            format!("more than one {name} header"),
        ));
    }
    Ok(headers.remove(name))
}

fn text_of(value: Option<HeaderValue>) -> Result<Option<String>, ()> {
    value
        .map(|value| value.to_str().map(str::to_owned).map_err(|_| ()))
        .transpose()
}

/// Reads a body to its end and drops it. An unread body would be parsed as the next
/// request on the connection.
///
/// # Errors
/// The body has more than `limit` bytes, is cut short, or does not end by `deadline`.
pub async fn discard<B>(mut body: B, limit: usize, deadline: Instant) -> Result<(), Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut left = limit;
    while !body.is_end_stream() {
        let frame = timeout_at(deadline, body.frame()).await;
        let frame = frame.map_err(|_| {
            Error::new(
                Kind::RequestTimeout,
                "the request body did not arrive in time",
            )
        })?;
        let Some(frame) = frame else { break };
        let Ok(frame) = frame else {
            return Err(Error::new(
                Kind::BadRequest,
                "the request body is cut short",
            ));
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        left = left.checked_sub(bytes).ok_or_else(|| {
            Error::new(
                Kind::BodyTooLarge,
                "a GET request must not have a body of this size",
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http_body_util::Full;

    fn take(
        build: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> (Result<Caller, Error>, Parts) {
        let request = build(Request::builder().uri("/v2").header("host", "gateway"));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        (Caller::take(&mut parts), parts)
    }

    #[test]
    fn headers_for_the_gateway_are_removed_and_all_others_stay() {
        let (caller, parts) = take(|request| {
            request
                .header("authorization", "Bearer t")
                .header("alexa-api-endpoint", "https://api.eu.amazonalexa.com")
                .header("alexa-gateway-timeout-ms", "300")
                .header("accept", "application/json")
                .header("x-anything", "1")
        });
        let caller = caller.unwrap();
        assert!(caller.token.is_some());
        assert_eq!(
            caller.api_endpoint.unwrap(),
            "https://api.eu.amazonalexa.com"
        );
        assert_eq!(caller.timeout, Some(Duration::from_millis(300)));
        assert_eq!(caller.host.unwrap(), "gateway");
        let left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["accept", "x-anything"]);
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        for (name, value) in [
            ("host", "other"),
            ("alexa-gateway-timeout-ms", "0"),
            ("alexa-gateway-timeout-ms", "-1"),
            ("alexa-gateway-timeout-ms", "+1"),
            ("alexa-gateway-timeout-ms", "1.5"),
            ("alexa-gateway-timeout-ms", "99999999999999999999"),
        ] {
            let (caller, _) = take(|request| request.header(name, value));
            assert_eq!(
                caller.unwrap_err().kind(),
                Kind::BadRequest,
                "{name}: {value}"
            );
        }
        for name in [
            "authorization",
            "alexa-api-endpoint",
            "alexa-gateway-timeout-ms",
        ] {
            let (caller, _) =
                take(|request| request.header(name, "Bearer 1").header(name, "Bearer 2"));
            assert_eq!(caller.unwrap_err().kind(), Kind::BadRequest, "{name}");
        }
    }

    #[tokio::test]
    async fn a_discarded_body_is_bounded() {
        let deadline = Instant::now() + Duration::from_secs(5);
        assert!(
            discard(Full::new(Bytes::from_static(b"12345")), 5, deadline)
                .await
                .is_ok()
        );
        let large = discard(Full::new(Bytes::from_static(b"123456")), 5, deadline).await;
        assert_eq!(large.unwrap_err().kind(), Kind::BodyTooLarge);
    }
}
