//! The record of one request: filled in while it runs, counted and logged exactly
//! once when it ends, however it ends.
//!
//! A record contains no token, no personal data and no id from a path.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use crate::cache::status::CacheStatus;
use crate::error::Kind;
use crate::limits::Family;
use crate::metrics::{CLIENT_LEFT, Metrics, RequestOutcome};
use crate::region::Region;
use crate::token::SkillId;
use crate::upstream::CallStats;

/// The target of the log lines of requests.
pub(crate) const TARGET: &str = "alexa_gateway::request";

/// A random id, sent back as `Alexa-Gateway-Request-Id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

/// A [`RequestId`] as sixteen hexadecimal digits.
struct Digits([u8; 16]);

impl Digits {
    fn as_str(&self) -> &str {
        // Always ASCII.
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

/// One request. Dropping it counts and logs the request: with the status given to
/// [`Record::finish`], or as one whose client left.
#[derive(Debug)]
pub struct Record {
    /// Its id.
    pub id: RequestId,
    /// When its head had been read.
    pub started: Instant,
    /// Its method.
    pub method: Method,
    /// The trace that it is part of (W3C Trace Context).
    pub trace_id: Option<String>,
    /// The region it was routed to.
    pub region: Option<Region>,
    /// The family of quotas it counted against.
    pub family: Option<Family>,
    /// Its path without ids.
    pub template: Option<Arc<str>>,
    /// The skill named by its token.
    pub skill: Option<SkillId>,
    /// How the cache handled it.
    pub cache: Option<CacheStatus>,
    /// The attempts made for it, and their times.
    pub stats: CallStats,
    /// The kind of the gateway's own error, if the client got one.
    pub error: Option<Kind>,
    status: Option<StatusCode>,
    log: bool,
    metrics: Arc<Metrics>,
}

impl Record {
    /// Starts the record of a request that has just been received.
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

    /// Ends the record with the status that is sent to the client.
    pub fn finish(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let total = self.started.elapsed();
        let status = self.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        self.metrics.request(&RequestOutcome {
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

/// The trace id in `traceparent`, if the header is valid (W3C Trace Context §3.2).
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
    fn a_trace_id_is_32_hexadecimal_digits() {
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
