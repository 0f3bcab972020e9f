//! What is known of one request while it runs; counted and logged once, at its
//! end, whatever end that is.
//!
//! A record holds nothing of a token, a person, or an id in a path.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use crate::cache::status::CacheStatus;
use crate::error::Kind;
use crate::limits::Family;
use crate::metrics::{CLIENT_LEFT, Metrics, Outcome};
use crate::region::Region;
use crate::token::SkillId;
use crate::upstream::CallStats;

/// What the lines of requests have as their target.
pub(crate) const TARGET: &str = "alexa_gateway::request";

/// Names a request: random, and on its answer as `Alexa-Gateway-Request-Id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// The sixteen digits of a [`RequestId`].
struct Digits([u8; 16]);

impl Digits {
    fn as_str(&self) -> &str {
        // They are ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl RequestId {
    /// The header's value.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text().0).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }

    fn text(self) -> Digits {
        let digit = |at| b"0123456789abcdef"[(self.0 >> (60 - 4 * at)) as usize & 15];
        Digits(std::array::from_fn(digit))
    }
}

/// One request. Filled in on the way; dropping it counts and logs it, with the
/// status of [`Record::finish`], or as one whose client left.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub id: RequestId,
    /// When it came.
    pub started: Instant,
    /// Its method.
    pub method: Method,
    /// The trace it belongs to (W3C Trace Context).
    pub trace_id: Option<String>,
    /// Where it went.
    pub region: Option<Region>,
    /// Which quotas it counted against.
    pub family: Option<Family>,
    /// Its path with every id left out.
    pub template: Option<Arc<str>>,
    /// The skill that its token names.
    pub skill: Option<SkillId>,
    /// What the cache did.
    pub cache: Option<CacheStatus>,
    /// What the call took.
    pub stats: CallStats,
    /// The gateway's own failure, if that is what the client got.
    pub error: Option<Kind>,
    status: Option<StatusCode>,
    log: bool,
    metrics: Arc<Metrics>,
}

impl Record {
    /// Starts the record of a request that has just come.
    #[must_use]
    pub fn start(method: Method, headers: &HeaderMap, log: bool, metrics: Arc<Metrics>) -> Self {
        Self {
            id: RequestId(fastrand::u64(..)),
            started: Instant::now(),
            method,
            trace_id: trace_id(headers),
            region: None,
            family: None,
            template: None,
            skill: None,
            cache: None,
            stats: CallStats::default(),
            error: None,
            status: None,
            log,
            metrics,
        }
    }

    /// Ends the record with the status that is sent.
    pub fn finish(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let total = self.started.elapsed();
        let status = self.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        self.metrics.request(&Outcome {
            region: self.region,
            family: self.family,
            skill: self.skill.as_ref(),
            cache: self.cache,
            status,
            error: self.error,
            queue_wait: self.stats.queue_wait,
            total,
        });
        if self.log {
            let milliseconds = |span: std::time::Duration| (span.as_secs_f64() * 1e6).round() / 1e3;
            tracing::info!(
                target: TARGET,
                request_id = self.id.text().as_str(),
                trace_id = self.trace_id,
                method = self.method.as_str(),
                template = self.template.as_deref(),
                region = self.region.map(Region::name),
                family = self.family.map(Family::name),
                skill = self.skill.as_ref().map(SkillId::as_str),
                status,
                cache = self.cache.as_ref().map(CacheStatus::label),
                error = self.error.map(Kind::label),
                queue_wait_ms = milliseconds(self.stats.queue_wait),
                attempts = self.stats.attempts,
                upstream_ms = milliseconds(self.stats.upstream_time),
                total_ms = milliseconds(total),
                "request"
            );
        }
    }
}

/// The trace id of a `traceparent` (W3C Trace Context §3.2), if it is one.
fn trace_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let id = value.split('-').nth(1)?;
    let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_id_is_taken_for_one() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            trace_id(&headers)
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(
            of(&format!("00-{id}-b7ad6b7169203331-01")).as_deref(),
            Some(id)
        );
        assert_eq!(of("00-John Smith-b7ad6b7169203331-01"), None);
        assert_eq!(of(""), None);
    }
}
