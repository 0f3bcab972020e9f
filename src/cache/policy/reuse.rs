//! Whether a stored response may be reused, and what to do if it may not (RFC 9111 §4).

use std::time::Duration;

use http::StatusCode;

use super::directives::RequestDirectives;
use super::freshness::Lifetime;
use crate::cache::status::Forward;

/// What one request may use a stored response for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It is fresh: serve it.
    Fresh,
    /// It is stale: serve it and fetch a new one meanwhile.
    WhileRevalidate,
    /// It is stale: fetch a new one, and serve it only if that fails.
    IfError,
    /// The request does not accept it.
    Refused,
    /// Its lifetime is over, for all requests.
    Expired,
}

/// Judges a response that has been stored for `resident`.
#[must_use]
pub fn judge(lifetime: &Lifetime, resident: Duration, request: &RequestDirectives) -> Reuse {
    let left = lifetime.fresh.saturating_sub(resident);
    let too_old = |limit: Duration| lifetime.initial_age.saturating_add(resident) > limit;
    let refused = request.no_cache
        || request
            .max_age
            .is_some_and(|limit| left.is_zero() || too_old(limit))
        || request.min_fresh.is_some_and(|wanted| left < wanted);
    if resident >= lifetime.retained() {
        Reuse::Expired
    } else if refused {
        Reuse::Refused
    } else if !left.is_zero() {
        Reuse::Fresh
    } else if resident < lifetime.while_revalidate {
        Reuse::WhileRevalidate
    } else {
        Reuse::IfError
    }
}

/// A stored response, with what the request may use it for.
#[derive(Clone, Copy, Debug)]
pub struct Judged<E> {
    /// The response.
    pub entry: E,
    /// What it may be used for.
    pub reuse: Reuse,
}

/// What the cache decides for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<E> {
    /// Serve a stored response.
    Hit {
        /// The stored response.
        entry: E,
        /// Fetch a new one meanwhile.
        revalidate: bool,
    },
    /// Fetch a response.
    Fetch {
        /// Why.
        forward: Forward,
        /// What the fetch may do with the cache.
        mode: FetchMode,
        /// The stale response to serve if the fetch fails.
        fallback: Option<E>,
    },
    /// `only-if-cached`, and nothing stored is usable: refuse the request.
    OnlyIfCached,
}

/// What a fetch may do with the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FetchMode {
    /// Use a response that has been stored meanwhile; otherwise call, and store the response.
    Cached,
    /// Call even if a response is stored, and store the new one.
    Anew,
    /// `no-store`: call, and store nothing.
    Unstored,
}

/// Decides what a request gets, given what is stored for it.
#[must_use]
pub fn decide<E>(stored: Option<Judged<E>>, request: &RequestDirectives) -> Decision<E> {
    let (forward, fallback) = match stored {
        Some(Judged { entry, reuse }) => match reuse {
            Reuse::Fresh | Reuse::WhileRevalidate => {
                let revalidate = reuse == Reuse::WhileRevalidate;
                return Decision::Hit { entry, revalidate };
            }
            Reuse::IfError => (Forward::Stale, Some(entry)),
            Reuse::Refused => (Forward::Request, None),
            Reuse::Expired => (Forward::Miss, None),
        },
        None => (Forward::Miss, None),
    };
    if request.only_if_cached {
        return Decision::OnlyIfCached;
    }
    let mode = if request.no_store {
        FetchMode::Unstored
    } else if request.no_cache || forward == Forward::Request {
        FetchMode::Anew
    } else {
        FetchMode::Cached
    };
    Decision::Fetch {
        forward,
        mode,
        fallback,
    }
}

/// Whether a response with this status counts as an error for which a stale response may
/// be served (RFC 5861 §4).
#[must_use]
pub fn permits_stale(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use http::header::CACHE_CONTROL;

    const SECOND: Duration = Duration::from_secs(1);

    fn directives(value: &str) -> RequestDirectives {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, value.parse().unwrap());
        RequestDirectives::parse(&headers)
    }

    #[test]
    fn a_stored_response_goes_from_fresh_to_expired() {
        let lifetime = Lifetime {
            initial_age: Duration::ZERO,
            fresh: 10 * SECOND,
            while_revalidate: 15 * SECOND,
            if_error: 20 * SECOND,
        };
        let any = RequestDirectives::default();
        for (age, expected) in [
            (0, Reuse::Fresh),
            (9, Reuse::Fresh),
            (10, Reuse::WhileRevalidate),
            (15, Reuse::IfError),
            (20, Reuse::Expired),
        ] {
            assert_eq!(judge(&lifetime, age * SECOND, &any), expected, "{age}");
        }
    }

    #[test]
    fn a_request_may_refuse_a_stored_response() {
        let lifetime = Lifetime {
            initial_age: 2 * SECOND,
            fresh: 10 * SECOND,
            while_revalidate: 20 * SECOND,
            if_error: 10 * SECOND,
        };
        for (value, age, expected) in [
            ("max-age=5", 3, Reuse::Fresh),
            ("max-age=5", 4, Reuse::Refused),
            ("max-age=0", 0, Reuse::Refused),
            ("max-age=100", 12, Reuse::Refused),
            ("min-fresh=5", 5, Reuse::Fresh),
            ("min-fresh=5", 6, Reuse::Refused),
            ("no-cache", 0, Reuse::Refused),
            ("no-store", 0, Reuse::Fresh),
            ("no-cache", 30, Reuse::Expired),
        ] {
            let judged = judge(&lifetime, age * SECOND, &directives(value));
            assert_eq!(judged, expected, "{value} at {age}");
        }
    }

    fn decided(reuse: Option<Reuse>, value: &str) -> Decision<()> {
        let stored = reuse.map(|reuse| Judged { entry: (), reuse });
        decide(stored, &directives(value))
    }

    #[test]
    fn a_usable_response_is_served_whatever_else_the_request_says() {
        for value in ["", "no-store", "only-if-cached"] {
            for (reuse, revalidate) in [(Reuse::Fresh, false), (Reuse::WhileRevalidate, true)] {
                let hit = Decision::Hit {
                    entry: (),
                    revalidate,
                };
                assert_eq!(decided(Some(reuse), value), hit, "{value}");
            }
        }
    }

    #[test]
    fn a_fetch_says_why_and_what_it_may_do_with_the_cache() {
        use FetchMode::{Anew, Cached, Unstored};
        use Forward::{Miss, Request, Stale};
        use Reuse::{Expired, IfError, Refused};
        for (reuse, value, forward, mode, fallback) in [
            (None, "", Miss, Cached, None),
            (Some(Expired), "", Miss, Cached, None),
            (Some(IfError), "", Stale, Cached, Some(())),
            // The flight looks in the cache again, and must not find what was refused.
            (Some(Refused), "max-age=0", Request, Anew, None),
            (None, "no-cache", Miss, Anew, None),
            (None, "no-store", Miss, Unstored, None),
            (Some(IfError), "no-store", Stale, Unstored, Some(())),
            (Some(Refused), "no-cache, no-store", Request, Unstored, None),
        ] {
            let fetch = Decision::Fetch {
                forward,
                mode,
                fallback,
            };
            assert_eq!(decided(reuse, value), fetch, "{reuse:?}, {value}");
        }
    }

    #[test]
    fn only_if_cached_makes_no_call() {
        use Reuse::{Expired, IfError, Refused};
        for reuse in [None, Some(Expired), Some(IfError), Some(Refused)] {
            assert_eq!(decided(reuse, "only-if-cached"), Decision::OnlyIfCached);
        }
    }

    #[test]
    fn a_stale_response_stands_in_for_server_errors_only() {
        let permitting = (100..600).filter(|&status| {
            let status = StatusCode::from_u16(status).unwrap();
            permits_stale(status)
        });
        assert_eq!(permitting.collect::<Vec<_>>(), [500, 502, 503, 504]);
    }
}
