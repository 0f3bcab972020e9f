//! One flight: checks the cache again, calls, stores.
//!
//! It owns all that it needs, so the request that started it may leave. Its outcome
//! is the same for all its waiters: one credential, one key, one response.

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
use crate::error::Error;
use crate::headers::add_via;
use crate::route::Rule;
use crate::upstream::{self, BufferedResponse, Call, CallStats, Upstream};

/// What makes two fetches the same: the key, and what may be done with the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlightKey {
    pub(super) key: CacheKey,
    pub(super) mode: FetchMode,
}

/// How a flight ended.
#[derive(Clone, Debug)]
pub(super) enum FlightOutcome {
    /// An earlier flight had stored a fresh response in the meantime.
    InCache(Arc<Entry>),
    /// A call was made, or refused.
    Called {
        response: Result<StoredResponse, Error>,
        /// For how long the response is fresh in the cache, if it was stored.
        stored: Option<Duration>,
        stats: CallStats,
    },
}

impl FlightOutcome {
    /// Whether a stale response may be served in its place (RFC 5861 §4).
    pub(super) fn permits_stale(&self) -> bool {
        match self {
            Self::InCache(_) => false,
            Self::Called { response, .. } => response
                .as_ref()
                .map_or(true, |response| policy::permits_stale(response.status())),
        }
    }
}

/// A flight about to start.
pub(super) struct Flight {
    pub(super) call: Call,
    pub(super) rule: Arc<Rule>,
    pub(super) key: FlightKey,
    /// Expiry of the token, in seconds since the Unix epoch.
    pub(super) expires_at: Option<u64>,
    /// When it lands at the latest.
    pub(super) deadline: Instant,
}

impl Flight {
    /// Flies. Ends early if `abandoned` completes before the call is sent.
    pub(super) async fn run(
        self,
        cache: &Cache,
        upstream: &Upstream,
        policy: &upstream::Policy,
        abandoned: impl Future<Output = ()>,
    ) -> FlightOutcome {
        let FlightKey { key, mode } = self.key;
        if mode == FetchMode::Cached {
            // The previous flight may have landed after this request's lookup.
            if let Some(entry) = cache.fresh(&key, Instant::now()) {
                return FlightOutcome::InCache(entry);
            }
        }
        // Awaited in the same expression: a future that is moved first is held twice.
        let (fetched, stats) = upstream
            .fetch(&self.call, policy, self.deadline, abandoned)
            .await;
        let (response, stored) = match fetched {
            Ok(response) => {
                let (response, stored) = self.keep(response, cache);
                (Ok(response), stored)
            }
            Err(error) => (Err(error), None),
        };
        FlightOutcome::Called {
            response,
            stored,
            stats,
        }
    }

    /// Stores a response if that is allowed. Returns for how long it is fresh.
    fn keep(&self, fetched: BufferedResponse, cache: &Cache) -> (StoredResponse, Option<Duration>) {
        let FlightKey { key, mode } = self.key;
        let expires_at = self.expires_at;
        let left = expires_at.map(|at| Duration::from_secs(at.saturating_sub(unix_seconds())));
        let (parts, body) = fetched.into_parts();
        let lifetime = policy::storable(&self.rule.freshness, parts.status, &parts.headers, left);
        let response = StoredResponse::new(parts.status, parts.headers, &body, cache.templates());
        let lifetime = lifetime.ok().filter(|_| mode != FetchMode::Unstored);
        if let Some(lifetime) = lifetime {
            let entry = Entry::new(response.clone(), lifetime, expires_at);
            cache.store(key, Arc::new(entry));
        }
        (response, lifetime.map(|lifetime| lifetime.fresh))
    }
}

/// Headers sent upstream besides the key's headers and the credentials.
const RELAYED_HEADERS: [HeaderName; 4] = [
    USER_AGENT,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// The headers of a flight's call. All waiters share the response, so no header that
/// is not part of the key may change it: the coding is fixed, and preconditions are
/// dropped.
pub(super) fn headers(parts: &Parts) -> HeaderMap {
    // Room for these, the token and `Host` without growing.
    let mut headers = HeaderMap::with_capacity(8);
    for name in KEY_HEADERS.iter().chain(&RELAYED_HEADERS) {
        for value in parts.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    add_via(&mut headers, parts.version);
    headers
}
