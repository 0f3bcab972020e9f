//! The `Cache-Control` directives of requests and responses (RFC 9111 §5.2).
//!
//! Unknown directives are ignored. A value that cannot be read counts as the strictest
//! one (RFC 9111 §4.2.1).

use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The directives of a request (RFC 9111 §5.2.1).
///
/// `max-stale` is left out: it is a permission, and the gateway does not use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache`: accepts no stored response.
    pub no_cache: bool,
    /// `no-store`: the response must not be stored.
    pub no_store: bool,
    /// `only-if-cached`: no call may be made.
    pub only_if_cached: bool,
    /// `max-age`: accepts no older response.
    pub max_age: Option<Duration>,
    /// `min-fresh`: the response must stay fresh for this long.
    pub min_fresh: Option<Duration>,
}

impl RequestDirectives {
    /// Reads the directives of a request.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for (name, value) in cache_control(headers) {
            match name.as_str() {
                "no-cache" => directives.no_cache = true,
                "no-store" => directives.no_store = true,
                "only-if-cached" => directives.only_if_cached = true,
                "max-age" => directives.max_age = Some(delta_seconds(value).unwrap_or_default()),
                "min-fresh" => {
                    directives.min_fresh = Some(delta_seconds(value).unwrap_or(Duration::MAX));
                }
                _ => {}
            }
        }
        // `Pragma` counts only if there is no `Cache-Control` (RFC 9111 §5.4).
        if !headers.contains_key(CACHE_CONTROL) {
            let pragma = headers.get(PRAGMA).map(HeaderValue::as_bytes);
            directives.no_cache = pragma.is_some_and(|p| p.eq_ignore_ascii_case(b"no-cache"));
        }
        directives
    }
}

/// The directives of a response (RFC 9111 §5.2.2).
#[derive(Default)]
pub(super) struct ResponseDirectives {
    /// `no-store`, or `no-cache`: Alexa sends no validators, so a stored response that has
    /// to be validated first could never be reused.
    pub(super) forbids_storing: bool,
    pub(super) must_revalidate: bool,
    /// `max-age`, `s-maxage` or `Expires`.
    pub(super) max_age: Option<Duration>,
}

impl ResponseDirectives {
    pub(super) fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for (name, value) in cache_control(headers) {
            match name.as_str() {
                "no-store" | "no-cache" => directives.forbids_storing = true,
                "must-revalidate" | "proxy-revalidate" => directives.must_revalidate = true,
                "max-age" | "s-maxage" => {
                    let age = delta_seconds(value).unwrap_or_default();
                    let least = directives.max_age.map_or(age, |other| other.min(age));
                    directives.max_age = Some(least);
                }
                _ => {}
            }
        }
        if directives.max_age.is_none() && headers.contains_key(EXPIRES) {
            directives.max_age = Some(until_expires(headers));
        }
        directives
    }
}

/// The value of `Age`, if there is a valid one.
pub(super) fn age(headers: &HeaderMap) -> Option<Duration> {
    delta_seconds(Some(headers.get(AGE)?.to_str().ok()?.trim()))
}

/// The time from `Date` to `Expires`. An invalid date means *already expired* (RFC 9111
/// §5.3).
fn until_expires(headers: &HeaderMap) -> Duration {
    let date = |name: HeaderName| -> Option<SystemTime> {
        httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
    };
    match (date(EXPIRES), date(DATE)) {
        (Some(expires), Some(sent)) => expires.duration_since(sent).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// Every directive of `Cache-Control`, with its name in lower case.
fn cache_control(headers: &HeaderMap) -> impl Iterator<Item = (String, Option<&str>)> {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| match directive.split_once('=') {
            Some((name, value)) => (name, Some(value.trim().trim_matches('"'))),
            None => (directive, None),
        })
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value))
}

/// Digits only; a number that overflows becomes 2³¹ (RFC 9111 §1.2.2).
fn delta_seconds(value: Option<&str>) -> Option<Duration> {
    let value = value?;
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Duration::from_secs(value.parse().unwrap_or(1 << 31)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, "no-cache".parse().unwrap());
        assert!(RequestDirectives::parse(&headers).no_cache);
        headers.insert(CACHE_CONTROL, "max-age=60".parse().unwrap());
        assert!(!RequestDirectives::parse(&headers).no_cache);
    }

    #[test]
    fn an_unreadable_value_counts_as_the_strictest() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, "max-age=x, min-fresh=-1".parse().unwrap());
        let directives = RequestDirectives::parse(&headers);
        assert_eq!(directives.max_age, Some(Duration::ZERO));
        assert_eq!(directives.min_fresh, Some(Duration::MAX));
    }
}
