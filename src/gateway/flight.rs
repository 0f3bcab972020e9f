//! One flight: looks in the cache again, calls, stores.
//!
//! It owns all that it needs, so that whoever started it may leave. Its outcome is
//! the same for all who wait for it: one credential, one key, one answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::cache::entry::Entry;
use crate::cache::key::{CacheKey, KEY_HEADERS};
use crate::cache::policy::{self, FetchMode};
use crate::cache::response::StoredResponse;
use crate::cache::{Cache, unix_seconds};
use crate::coalesce::Interest;
use crate::error::Error;
use crate::headers;
use crate::route::Rule;
use crate::upstream::{self, BufferedResponse, Call, CallStats, Upstream};

/// What makes two fetches the same: the key, and what may be done with the answer.
pub(super) type FlightKey = (CacheKey, FetchMode);

/// The outcome of a flight.
#[derive(Clone, Debug)]
pub(super) enum Landed {
    /// Another flight had stored an answer in the meantime.
    InCache(Arc<Entry>),
    /// A call was made, or could not be.
    Called {
        outcome: Result<StoredResponse, Error>,
        /// For how long the answer is fresh in the cache, if it was stored.
        stored: Option<Duration>,
        stats: CallStats,
    },
}

/// Whether a stale answer may stand in (RFC 5861 §4).
pub(super) fn is_failure(landed: &Result<Landed, Error>) -> bool {
    match landed {
        Err(_)
        | Ok(Landed::Called {
            outcome: Err(_), ..
        }) => true,
        Ok(Landed::Called {
            outcome: Ok(answer),
            ..
        }) => policy::permits_stale(answer.status()),
        Ok(Landed::InCache(_)) => false,
    }
}

/// A flight about to start.
pub(super) struct Flight {
    pub(super) call: Call,
    pub(super) rule: Arc<Rule>,
    pub(super) key: FlightKey,
    /// When the token expires, in seconds since the Unix epoch.
    pub(super) expires_at: Option<u64>,
    /// Its own, whatever its waiters' are.
    pub(super) deadline: Instant,
    /// Nobody waits for it, so it goes on although nobody does.
    pub(super) in_background: bool,
}

impl Flight {
    /// Flies. Ends early if all waiters have left before anything was sent.
    pub(super) async fn run(
        self,
        cache: &Cache,
        upstream: &Upstream,
        policy: &upstream::Policy,
        interest: Interest<FlightKey, Landed>,
    ) -> Landed {
        let (key, mode) = self.key;
        if mode == FetchMode::Cached {
            // The last flight may have landed after our request had looked.
            if let Some(entry) = cache.fresh(&key, Instant::now()) {
                return Landed::InCache(entry);
            }
        }
        let abandoned = async {
            if self.in_background {
                std::future::pending().await
            } else {
                interest.abandoned().await
            }
        };
        // Awaited where it is made: one that is moved first takes its room twice.
        let (outcome, stats) = upstream
            .fetch(&self.call, policy, self.deadline, abandoned)
            .await;
        match outcome {
            Ok(whole) => {
                let (answer, stored) = self.keep(whole, cache);
                Landed::Called {
                    outcome: Ok(answer),
                    stored,
                    stats,
                }
            }
            Err(error) => Landed::Called {
                outcome: Err(error),
                stored: None,
                stats,
            },
        }
    }

    /// Stores an answer if it may be, and tells for how long it is fresh.
    fn keep(&self, whole: BufferedResponse, cache: &Cache) -> (StoredResponse, Option<Duration>) {
        let (key, mode) = self.key;
        let expires_at = self.expires_at;
        let left = expires_at.map(|at| Duration::from_secs(at.saturating_sub(unix_seconds())));
        let (parts, body) = whole.into_parts();
        let lifetime = policy::storable(&self.rule.freshness, parts.status, &parts.headers, left);
        let answer = StoredResponse::new(parts.status, parts.headers, &body, cache.heads());
        let lifetime = lifetime.ok().filter(|_| mode != FetchMode::Unstored);
        if let Some(lifetime) = lifetime {
            let entry = Entry::new(answer.clone(), lifetime, expires_at);
            cache.store(key, Arc::new(entry));
        }
        (answer, lifetime.map(|lifetime| lifetime.fresh))
    }
}

/// What a flight tells upstream besides the key's headers and the credentials.
const RELAYED_HEADERS: [HeaderName; 4] = [
    USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// The headers of a flight's call. Its answer goes to everybody who waits, so
/// nothing that is not part of the key may change it: one coding, and no
/// preconditions.
pub(super) fn headers(parts: &Parts) -> HeaderMap {
    // Room for these, the token, and the origin's name, without growing.
    let mut headers = HeaderMap::with_capacity(8);
    for name in KEY_HEADERS.iter().chain(&RELAYED_HEADERS) {
        for value in parts.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers::add_via(&mut headers, parts.version);
    headers
}
