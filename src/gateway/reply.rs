//! What a request is replied with, and the response that is made of it.

use std::sync::Arc;

use http::{HeaderValue, Response};
use tokio::time::Instant;

use super::fetch::Fetched;
use super::flight::FlightOutcome;
use crate::body::{self, Body};
use crate::cache::entry::Entry;
use crate::cache::response::{ResponseStamp, StoredResponse};
use crate::cache::status::{CacheStatus, Forward};
use crate::error::{Error, Kind};
use crate::headers::{CACHE_STATUS, REQUEST_ID};
use crate::record::Record;

/// What a request is replied with.
pub(super) enum Reply {
    /// A stored response, usable at `now`.
    Stored { entry: Arc<Entry>, now: Instant },
    /// The response to a call, and how the cache handled it.
    Called {
        response: StoredResponse,
        cache: CacheStatus,
    },
    /// The response of upstream, as it comes.
    Streamed(Response<Body>),
}

impl Reply {
    /// The reply once a fetch has ended: its response, or the stale `fallback` if the
    /// fetch failed (RFC 5861 §4). Records what the fetch took.
    ///
    /// # Errors
    /// The fetch failed, and there is no fallback.
    pub(super) fn fetched(
        fetched: Result<Fetched, Error>,
        forward: Forward,
        fallback: Option<Arc<Entry>>,
        record: &mut Record,
    ) -> Result<Self, Error> {
        let now = Instant::now();
        let stale = |entry| Self::Stored { entry, now };
        let Fetched { outcome, collapsed } = match fetched {
            Ok(fetched) => fetched,
            Err(error) => return fallback.map(stale).ok_or(error),
        };
        let permits_stale = outcome.permits_stale();
        let (response, stored) = match outcome {
            FlightOutcome::InCache(entry) => return Ok(Self::Stored { entry, now }),
            FlightOutcome::Called {
                response,
                stored,
                stats,
            } => {
                record.stats = stats;
                (response, stored)
            }
        };
        let cache = CacheStatus::Forwarded {
            forward,
            status: response.as_ref().ok().map(StoredResponse::status),
            collapsed,
            stored,
        };
        record.cache = Some(cache);
        match fallback.filter(|_| permits_stale) {
            Some(entry) => Ok(stale(entry)),
            None => response.map(|response| Self::Called { response, cache }),
        }
    }
}

/// The error for `only-if-cached` without a usable response (RFC 9111 §5.2.1.7).
///
/// # Errors
/// Always.
pub(super) fn not_cached(record: &mut Record) -> Result<Reply, Error> {
    record.cache = Some(CacheStatus::NotCached);
    let message = "only-if-cached, and no usable response is stored";
    Err(Error::new(Kind::NotCached, message))
}

/// The response to the client, for a reply or the gateway's own error.
pub(super) fn response(outcome: Result<Reply, Error>, record: &mut Record) -> Response<Body> {
    let id = record.id.header();
    match outcome {
        Ok(Reply::Stored { entry, now }) => {
            let cache = hit(&entry, now);
            record.cache = Some(cache);
            entry.response.to_response(ResponseStamp {
                request_id: id,
                cache_status: cache.header(),
                age_seconds: Some(entry.age(now).as_secs()),
            })
        }
        Ok(Reply::Called { response, cache }) => response.to_response(ResponseStamp {
            request_id: id,
            cache_status: cache.header(),
            age_seconds: None,
        }),
        Ok(Reply::Streamed(response)) => stamped(response, id, record.cache),
        Err(error) => {
            record.error = Some(error.kind());
            // A request that no call was tried for was not forwarded (RFC 9211 §2.2).
            record.cache = record.cache.filter(|_| !error.kind().is_refusal());
            stamped(error.to_response().map(body::whole), id, record.cache)
        }
    }
}

/// How the cache handled a request that is served with `entry`.
fn hit(entry: &Entry, now: Instant) -> CacheStatus {
    let resident = entry.resident(now);
    let fresh = entry.lifetime().fresh;
    match fresh.checked_sub(resident) {
        Some(left) => CacheStatus::Hit(left),
        None => CacheStatus::HitStale(resident - fresh),
    }
}

/// Adds the gateway's own headers.
fn stamped(
    mut response: Response<Body>,
    id: HeaderValue,
    cache: Option<CacheStatus>,
) -> Response<Body> {
    let headers = response.headers_mut();
    if let Some(cache) = cache {
        headers.append(CACHE_STATUS, cache.header());
    }
    headers.insert(REQUEST_ID, id);
    response
}
