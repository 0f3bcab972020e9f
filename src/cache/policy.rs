//! What may be stored, for how long, and what a stored answer is good for.
//!
//! The gateway is a private cache per credential (RFC 9111 §1): an answer is only
//! ever used for the token that fetched it, so `private` and `Authorization` do
//! not forbid storing. All of it is pure: durations in, decisions out.

use std::time::{Duration, SystemTime};

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, EXPIRES, PRAGMA, VARY,
};
use http::{HeaderMap, HeaderName, StatusCode};

/// What the configuration allows for one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// How long a 200 stays fresh at most; zero means *coalesce only*.
    pub ttl: Duration,
    /// The same for a 204, which says that no value is set.
    pub no_content_ttl: Duration,
    /// How long before its token expires an answer stops being fresh.
    pub expiry_margin: Duration,
    /// Whether `no-store` and `no-cache` from upstream are obeyed.
    pub respect_no_store: bool,
    /// How long past freshness an answer may be used while a new one is fetched
    /// (RFC 5861 §3).
    pub stale_while_revalidate: Duration,
    /// How long past freshness an answer may be used when fetching a new one
    /// fails (RFC 5861 §4).
    pub stale_if_error: Duration,
}

impl Default for Freshness {
    /// Nothing is stored.
    fn default() -> Self {
        Self {
            ttl: Duration::ZERO,
            no_content_ttl: Duration::ZERO,
            expiry_margin: Duration::ZERO,
            respect_no_store: true,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        }
    }
}

/// The spans of one stored answer, all counted from its storing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How old the answer was when it came (`Age`).
    pub initial_age: Duration,
    /// How long it is fresh.
    pub fresh: Duration,
    /// How long it may be used while a new one is fetched; at least `fresh`.
    pub while_revalidate: Duration,
    /// How long it may be used if fetching a new one fails; at least `fresh`.
    pub if_error: Duration,
}

impl Lifetime {
    /// How long the answer is good for anything at all.
    #[must_use]
    pub fn retained(&self) -> Duration {
        self.while_revalidate.max(self.if_error)
    }
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStore {
    /// The rule's `ttl` is zero.
    Disabled,
    /// Only 200 and 204 are stored.
    Status,
    /// A 200 without a JSON content type, such as a captive portal's page, or
    /// one with a content coding that not every client may understand.
    Content,
    /// Upstream said `no-store` or `no-cache`.
    Directive,
    /// Upstream varies its answers by a header that is not part of the key.
    Vary,
    /// Nothing of the answer's or the token's lifetime is left.
    Expired,
}

/// Decides whether an answer is stored, and for how long.
///
/// `token_left` is how long the token that fetched it stays valid, where the
/// token tells.
///
/// # Errors
/// The reason for not storing.
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
    let said = ResponseDirectives::parse(headers);
    if rule.respect_no_store && said.forbids_storing {
        return Err(NoStore::Directive);
    }
    let initial_age = seconds(headers, &AGE).unwrap_or_default();
    let allowed = said
        .max_age
        .map_or(ttl, |max_age| max_age.saturating_sub(initial_age));
    let valid = token_left.unwrap_or(Duration::MAX);
    let fresh = ttl
        .min(allowed)
        .min(valid.saturating_sub(rule.expiry_margin));
    if fresh.is_zero() {
        return Err(NoStore::Expired);
    }
    let stale = |span: Duration| match said.must_revalidate {
        true => fresh,
        false => fresh.saturating_add(span).min(valid),
    };
    Ok(Lifetime {
        initial_age,
        fresh,
        while_revalidate: stale(rule.stale_while_revalidate),
        if_error: stale(rule.stale_if_error),
    })
}

/// What a request allows a cache to do (RFC 9111 §5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache`: no stored answer will do.
    pub no_cache: bool,
    /// `no-store`: the answer is not to be stored.
    pub no_store: bool,
    /// `only-if-cached`: no call may be made.
    pub only_if_cached: bool,
    /// `max-age`: no older answer will do.
    pub max_age: Option<Duration>,
    /// `min-fresh`: the answer must stay fresh for so long.
    pub min_fresh: Option<Duration>,
}

impl RequestDirectives {
    /// Reads the directives of a request; unknown ones are ignored, and
    /// `max-stale` is a permission that is never used.
    #[must_use]
    pub fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for (name, value) in cache_control(headers) {
            match name.as_str() {
                "no-cache" => directives.no_cache = true,
                "no-store" => directives.no_store = true,
                "only-if-cached" => directives.only_if_cached = true,
                // An unreadable age is read as the strictest (§4.2.1).
                "max-age" => directives.max_age = Some(delta_seconds(value).unwrap_or_default()),
                "min-fresh" => {
                    directives.min_fresh = Some(delta_seconds(value).unwrap_or(Duration::MAX));
                }
                _ => {}
            }
        }
        // RFC 9111 §5.4: `Pragma` counts only where `Cache-Control` is absent.
        if !headers.contains_key(CACHE_CONTROL) {
            let pragma = headers.get(PRAGMA).map(http::HeaderValue::as_bytes);
            directives.no_cache = pragma.is_some_and(|p| p.eq_ignore_ascii_case(b"no-cache"));
        }
        directives
    }
}

/// What a stored answer is good for, for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Answer with it.
    Fresh,
    /// Answer with it and fetch a new one meanwhile.
    WhileRevalidate,
    /// Fetch a new one and fall back on it.
    IfError,
    /// It could be used, but not for this request.
    RefusedByRequest,
    /// It is of no more use.
    Expired,
}

/// Judges a stored answer `resident` after its storing.
#[must_use]
pub fn judge(lifetime: &Lifetime, resident: Duration, request: &RequestDirectives) -> Use {
    let left = lifetime.fresh.saturating_sub(resident);
    let too_old = |limit: Duration| lifetime.initial_age.saturating_add(resident) > limit;
    let refused = request.no_cache
        || request
            .max_age
            .is_some_and(|limit| left.is_zero() || too_old(limit))
        || request.min_fresh.is_some_and(|wanted| left < wanted);
    if resident >= lifetime.retained() {
        Use::Expired
    } else if refused {
        Use::RefusedByRequest
    } else if !left.is_zero() {
        Use::Fresh
    } else if resident < lifetime.while_revalidate {
        Use::WhileRevalidate
    } else {
        Use::IfError
    }
}

/// What upstream says about storing its answer (RFC 9111 §5.2.2).
#[derive(Default)]
struct ResponseDirectives {
    forbids_storing: bool,
    must_revalidate: bool,
    max_age: Option<Duration>,
}

impl ResponseDirectives {
    fn parse(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in cache_control(headers) {
            match name.as_str() {
                // A stored answer that must be validated first is of no use
                // here: Alexa sends no validators.
                "no-store" | "no-cache" => said.forbids_storing = true,
                "must-revalidate" | "proxy-revalidate" => said.must_revalidate = true,
                "max-age" | "s-maxage" => {
                    let age = delta_seconds(value).unwrap_or_default();
                    said.max_age = Some(said.max_age.map_or(age, |other| other.min(age)));
                }
                _ => {}
            }
        }
        if said.max_age.is_none() && headers.contains_key(EXPIRES) {
            said.max_age = Some(until_expires(headers));
        }
        said
    }
}

/// `Expires` as a span after `Date`; anything unreadable has expired (§5.3).
fn until_expires(headers: &HeaderMap) -> Duration {
    let date = |name: HeaderName| -> Option<SystemTime> {
        httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
    };
    match (date(EXPIRES), date(DATE)) {
        (Some(expires), Some(sent)) => expires.duration_since(sent).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

/// Every directive of `Cache-Control`, its name in lower case.
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

/// RFC 9111 §1.2.2: digits only, and what overflows counts as very long.
fn delta_seconds(value: Option<&str>) -> Option<Duration> {
    let value = value?;
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Duration::from_secs(value.parse().unwrap_or(1 << 31)))
}

fn seconds(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    delta_seconds(Some(headers.get(name)?.to_str().ok()?.trim()))
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

/// Whether every name in `Vary` is part of the key or the same in every call.
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
    fn freshness_is_the_least_of_ttl_token_and_max_age() {
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
    fn no_store_is_respected_unless_told_otherwise() {
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
    fn only_values_and_their_absence_are_stored() {
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
    fn what_is_not_plain_json_is_not_stored() {
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
    fn variants_that_the_key_cannot_tell_apart_are_not_stored() {
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
    fn stale_spans_never_reach_past_the_token() {
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

    #[test]
    fn a_stored_answer_ages_through_its_uses() {
        let lifetime = Lifetime {
            initial_age: Duration::ZERO,
            fresh: 10 * SECOND,
            while_revalidate: 15 * SECOND,
            if_error: 20 * SECOND,
        };
        let any = RequestDirectives::default();
        for (age, expected) in [
            (0, Use::Fresh),
            (9, Use::Fresh),
            (10, Use::WhileRevalidate),
            (15, Use::IfError),
            (20, Use::Expired),
        ] {
            assert_eq!(judge(&lifetime, age * SECOND, &any), expected, "{age}");
        }
    }

    #[test]
    fn a_request_can_be_pickier_than_the_cache() {
        let lifetime = Lifetime {
            initial_age: 2 * SECOND,
            fresh: 10 * SECOND,
            while_revalidate: 20 * SECOND,
            if_error: 10 * SECOND,
        };
        let at = |value: &str, age: u32| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, value.parse().unwrap());
            judge(&lifetime, age * SECOND, &RequestDirectives::parse(&headers))
        };
        assert_eq!(at("max-age=5", 3), Use::Fresh);
        assert_eq!(at("max-age=5", 4), Use::RefusedByRequest);
        assert_eq!(at("max-age=0", 0), Use::RefusedByRequest);
        assert_eq!(at("max-age=100", 12), Use::RefusedByRequest);
        assert_eq!(at("min-fresh=5", 5), Use::Fresh);
        assert_eq!(at("min-fresh=5", 6), Use::RefusedByRequest);
        assert_eq!(at("no-cache", 0), Use::RefusedByRequest);
        assert_eq!(at("no-store", 0), Use::Fresh);
        assert_eq!(at("no-cache", 30), Use::Expired);
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, "no-cache".parse().unwrap());
        assert!(RequestDirectives::parse(&headers).no_cache);
        headers.insert(CACHE_CONTROL, "max-age=60".parse().unwrap());
        assert!(!RequestDirectives::parse(&headers).no_cache);
    }
}
