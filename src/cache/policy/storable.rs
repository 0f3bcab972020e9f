//! Whether a response may be stored, and for how long (RFC 9111 §3 and §4.2).

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};

use super::directives::{self, ResponseDirectives};
use super::freshness::{Freshness, Lifetime};

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStore {
    /// The rule's `ttl` is zero.
    Disabled,
    /// Only 200 and 204 are stored.
    Status,
    /// A 200 that is not JSON, such as the page of a captive portal, or one with a content
    /// coding that some clients may not understand.
    Content,
    /// Upstream said `no-store` or `no-cache`.
    Directive,
    /// `Vary` names a header that is not part of the key.
    Vary,
    /// The response or its token has already expired, or is about to.
    Expired,
}

/// Decides whether a response is stored, and for how long.
///
/// `token_left` is the time until its token expires, where the token says so.
///
/// # Errors
/// The reason for not storing it.
pub fn storable(
    rule: &Freshness,
    status: StatusCode,
    headers: &HeaderMap,
    token_left: Option<Duration>,
) -> Result<Lifetime, NoStore> {
    let ttl = match status {
        StatusCode::OK => rule.ttl,
        StatusCode::NO_CONTENT => rule.no_content_ttl.min(rule.ttl),
        _ => return Err(NoStore::Status),
    };
    if ttl.is_zero() {
        return Err(NoStore::Disabled);
    }
    if status == StatusCode::OK && !(is_json(headers) && is_identity(headers)) {
        return Err(NoStore::Content);
    }
    if !varies_by_key_only(headers) {
        return Err(NoStore::Vary);
    }
    let directives = ResponseDirectives::parse(headers);
    if rule.respect_no_store && directives.forbids_storing {
        return Err(NoStore::Directive);
    }
    let initial_age = directives::age(headers).unwrap_or_default();
    let allowed = directives
        .max_age
        .map_or(ttl, |max_age| max_age.saturating_sub(initial_age));
    let valid = token_left.unwrap_or(Duration::MAX);
    let fresh = ttl
        .min(allowed)
        .min(valid.saturating_sub(rule.expiry_margin));
    if fresh.is_zero() {
        return Err(NoStore::Expired);
    }
    let stale = |span: Duration| {
        if directives.must_revalidate {
            fresh
        } else {
            fresh.saturating_add(span).min(valid)
        }
    };
    Ok(Lifetime {
        initial_age,
        fresh,
        while_revalidate: stale(rule.stale_while_revalidate),
        if_error: stale(rule.stale_if_error),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .as_bytes();
    let suffix = essence.last_chunk::<5>();
    essence.eq_ignore_ascii_case(b"application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

fn is_identity(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether every name in `Vary` is part of the key or has the same value in every call.
fn varies_by_key_only(headers: &HeaderMap) -> bool {
    let in_key = |name: &str| {
        [
            "authorization",
            "accept",
            "accept-language",
            "accept-encoding",
            "",
        ]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
    };
    headers
        .get_all(VARY)
        .iter()
        .all(|value| match value.to_str() {
            Ok(names) => names.split(',').all(|name| in_key(name.trim())),
            Err(_) => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rule() -> Freshness {
        Freshness {
            ttl: 10 * SECOND,
            no_content_ttl: SECOND,
            expiry_margin: 5 * SECOND,
            ..Freshness::default()
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            "application/json;charset=UTF-8".parse().unwrap(),
        );
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn fresh(
        rule: &Freshness,
        pairs: &[(&'static str, &str)],
        left: Option<u64>,
    ) -> Result<u64, NoStore> {
        let left = left.map(Duration::from_secs);
        storable(rule, StatusCode::OK, &headers(pairs), left).map(|l| l.fresh.as_secs())
    }

    #[test]
    fn freshness_is_the_least_of_ttl_token_lifetime_and_max_age() {
        assert_eq!(fresh(&rule(), &[], None), Ok(10));
        assert_eq!(fresh(&rule(), &[], Some(300)), Ok(10));
        assert_eq!(fresh(&rule(), &[], Some(12)), Ok(7));
        assert_eq!(fresh(&rule(), &[], Some(5)), Err(NoStore::Expired));
        assert_eq!(
            fresh(&rule(), &[("cache-control", "max-age=4")], Some(300)),
            Ok(4)
        );
        assert_eq!(
            fresh(
                &rule(),
                &[("cache-control", "max-age=4"), ("age", "3")],
                None
            ),
            Ok(1)
        );
        assert_eq!(
            fresh(&rule(), &[("cache-control", "max-age=0")], None),
            Err(NoStore::Expired)
        );
        assert_eq!(
            fresh(&rule(), &[("cache-control", "max-age=x")], None),
            Err(NoStore::Expired)
        );
        assert_eq!(
            fresh(&rule(), &[("expires", "0")], None),
            Err(NoStore::Expired)
        );
    }

    #[test]
    fn expires_counts_from_date() {
        let pairs = [
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("expires", "Sun, 06 Nov 1994 08:49:40 GMT"),
        ];
        assert_eq!(fresh(&rule(), &pairs, None), Ok(3));
    }

    #[test]
    fn no_store_is_obeyed_unless_configured_otherwise() {
        let stubborn = Freshness {
            respect_no_store: false,
            ..rule()
        };
        for value in ["no-store", "private, No-Store", "no-cache"] {
            let pairs = [("cache-control", value)];
            assert_eq!(
                fresh(&rule(), &pairs, None),
                Err(NoStore::Directive),
                "{value}"
            );
            assert_eq!(fresh(&stubborn, &pairs, None), Ok(10), "{value}");
        }
        assert_eq!(
            fresh(&rule(), &[("cache-control", "private")], None),
            Ok(10)
        );
    }

    #[test]
    fn only_200_and_204_are_stored() {
        for status in [400, 401, 403, 404, 429, 500, 503, 302, 206] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                storable(&rule(), status, &headers(&[]), None),
                Err(NoStore::Status)
            );
        }
        let lifetime = storable(&rule(), StatusCode::NO_CONTENT, &HeaderMap::new(), None).unwrap();
        assert_eq!(lifetime.fresh, SECOND);
    }

    #[test]
    fn a_ttl_of_zero_stores_nothing() {
        let rule = Freshness {
            ttl: Duration::ZERO,
            ..rule()
        };
        for status in [StatusCode::OK, StatusCode::NO_CONTENT] {
            assert_eq!(
                storable(&rule, status, &headers(&[]), None),
                Err(NoStore::Disabled)
            );
        }
    }

    #[test]
    fn a_200_that_is_not_plain_json_is_not_stored() {
        for kind in ["text/html", "application/jsonp", ""] {
            let mut headers = headers(&[]);
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            assert_eq!(
                storable(&rule(), StatusCode::OK, &headers, None),
                Err(NoStore::Content)
            );
        }
        assert_eq!(
            fresh(&rule(), &[("content-encoding", "gzip")], None),
            Err(NoStore::Content)
        );
    }

    #[test]
    fn a_response_that_varies_by_another_header_is_not_stored() {
        assert_eq!(
            fresh(&rule(), &[("vary", "Accept, Accept-Encoding")], None),
            Ok(10)
        );
        assert_eq!(
            fresh(&rule(), &[("vary", "User-Agent")], None),
            Err(NoStore::Vary)
        );
        assert_eq!(fresh(&rule(), &[("vary", "*")], None), Err(NoStore::Vary));
    }

    #[test]
    fn a_response_is_never_retained_past_its_token() {
        let rule = Freshness {
            stale_while_revalidate: 20 * SECOND,
            stale_if_error: 600 * SECOND,
            ..rule()
        };
        let lifetime = storable(&rule, StatusCode::OK, &headers(&[]), Some(25 * SECOND)).unwrap();
        assert_eq!(lifetime.while_revalidate, 25 * SECOND);
        assert_eq!(lifetime.if_error, 25 * SECOND);
        let strict = headers(&[("cache-control", "must-revalidate")]);
        let lifetime = storable(&rule, StatusCode::OK, &strict, None).unwrap();
        assert_eq!(lifetime.retained(), 10 * SECOND);
    }
}
