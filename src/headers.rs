//! Header names of the gateway's own, and which headers may be forwarded.
//!
//! [`strip_hop_by_hop`] removes the headers that are for one connection only
//! (RFC 9110 §7.6.1), in both directions. [`add_via`] announces the gateway.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// Request: the skill's `context.System.apiEndpoint`, sent by a caller that calls
/// the gateway instead.
pub const API_ENDPOINT: HeaderName = HeaderName::from_static("alexa-api-endpoint");

/// Request: how long the caller is willing to wait, in milliseconds.
pub const TIMEOUT_MS: HeaderName = HeaderName::from_static("alexa-gateway-timeout-ms");

/// Response: the id under which the request is logged.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("alexa-gateway-request-id");

/// Response: how the cache handled the request (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The headers that are hop-by-hop even if `Connection` does not list them
/// (RFC 9110 §7.6.1, RFC 9112 §6.1 and §C.2.2).
pub(crate) static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// Removes the hop-by-hop headers: those that `Connection` lists and those that
/// always are (RFC 9110 §7.6.1).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    // RFC 9112 §6.3: Transfer-Encoding overrides Content-Length, which must not be
    // forwarded then.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Appends the gateway to `Via`, as RFC 9110 §7.6.3 requires of a gateway.
pub fn add_via(headers: &mut HeaderMap, received: Version) {
    let entry = match received {
        Version::HTTP_2 => "2 alexa-gateway",
        Version::HTTP_10 => "1.0 alexa-gateway",
        _ => "1.1 alexa-gateway",
    };
    headers.append(VIA, HeaderValue::from_static(entry));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(headers: &[(&'static str, &'static str)]) -> Vec<String> {
        let pairs = headers.iter().map(|&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let mut headers: HeaderMap = pairs.collect();
        strip_hop_by_hop(&mut headers);
        headers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn headers_listed_by_connection_are_removed_with_the_fixed_ones() {
        let left = stripped(&[
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("x-public", "1"),
        ]);
        assert_eq!(left, ["x-public"]);
    }

    #[test]
    fn content_length_is_removed_only_beside_transfer_encoding() {
        assert_eq!(stripped(&[("content-length", "5")]), ["content-length"]);
        let both = [("content-length", "5"), ("transfer-encoding", "chunked")];
        assert!(stripped(&both).is_empty());
    }
}
