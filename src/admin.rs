//! The admin endpoints, for operators, probes and scrapers.
//!
//! | GET | meaning |
//! |---|---|
//! | `/-/healthy` | 200 while the process responds |
//! | `/-/ready` | 200 while requests are accepted, 503 during start and stop |
//! | `/-/status` | JSON: traffic per region and skill, cache, flights, queues, quotas, breakers, last reload |
//! | `/metrics` | Prometheus, in the OpenMetrics text format |
//!
//! Nothing here changes the gateway, and nothing shows a token or personal data.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::limits::{Family, LaneSnapshot, Learned};
use crate::metrics::{LaneGauge, LaneLabels, RegionLabels, Traffic};
use crate::region::Region;
use crate::upstream::breaker::{BreakerSnapshot, Phase};

/// Where operators are served.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The address to listen on, if any.
    pub address: Option<SocketAddr>,
}

/// The state of the server, beyond that of the gateway.
#[derive(Debug)]
pub struct ServerState {
    ready: AtomicBool,
    connections: AtomicI64,
    started: Instant,
    last_reload: Mutex<Option<ReloadReport>>,
}

/// The result of a reload.
#[derive(Clone, Debug, Serialize)]
pub struct ReloadReport {
    /// When it happened (RFC 3339).
    pub at: String,
    /// Whether the new configuration was applied.
    pub applied: bool,
    /// Its problems, if it was not.
    pub problems: Vec<String>,
    /// Changed keys that take effect only after a restart.
    pub needs_restart: Vec<&'static str>,
}

impl ServerState {
    /// The state of a server that is not ready yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ready: AtomicBool::new(false),
            connections: AtomicI64::new(0),
            started: Instant::now(),
            last_reload: Mutex::new(None),
        }
    }

    /// Sets whether requests are accepted.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Counts a connection as open until the guard is dropped.
    #[must_use]
    pub fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    /// Records the result of a reload.
    pub fn note_reload(
        &self,
        applied: bool,
        problems: Vec<String>,
        needs_restart: Vec<&'static str>,
    ) {
        let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        *self.last_reload.lock() = Some(ReloadReport {
            at,
            applied,
            problems,
            needs_restart,
        });
    }
}

impl Default for ServerState {
    fn default() -> Self {
        Self::new()
    }
}

/// An open connection. Dropping it counts it as closed.
#[derive(Debug)]
pub struct OpenConnection(Arc<ServerState>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The status page.
#[derive(Serialize)]
struct StatusPage {
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    connections: i64,
    regions: BTreeMap<&'static str, RegionStatus>,
    skills: BTreeMap<String, Traffic>,
    cache: CacheSize,
    flights: usize,
    waiters: usize,
    last_reload: Option<ReloadReport>,
}

#[derive(Serialize)]
struct RegionStatus {
    upstream: String,
    traffic: Traffic,
    breaker: BreakerSnapshot,
    limits: BTreeMap<&'static str, LaneStatus>,
}

#[derive(Serialize)]
struct LaneStatus {
    #[serde(flatten)]
    lane: LaneSnapshot,
    learned: Vec<Learned>,
}

#[derive(Serialize)]
struct CacheSize {
    entries: u64,
    max_entries: u64,
    bytes: u64,
    max_bytes: u64,
}

/// Responds to the requests of operators.
#[derive(Debug)]
pub struct Admin {
    gateway: Arc<Gateway>,
    state: Arc<ServerState>,
}

impl Admin {
    /// Shows one gateway and its server.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, state: Arc<ServerState>) -> Self {
        Self { gateway, state }
    }

    /// Responds to one request.
    #[must_use]
    pub fn handle<B>(&self, request: &Request<B>) -> Response<Bytes> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is allowed here\n");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/-/healthy" => text(StatusCode::OK, "healthy\n"),
            "/-/ready" if self.state.ready.load(Ordering::Relaxed) => {
                text(StatusCode::OK, "ready\n")
            }
            "/-/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/-/status" => self.status(),
            "/metrics" => self.metrics(),
            _ => text(
                StatusCode::NOT_FOUND,
                "not found; try /-/healthy, /-/ready, /-/status or /metrics\n",
            ),
        }
    }

    fn status(&self) -> Response<Bytes> {
        let (policy, gateway) = (self.gateway.policy(), &self.gateway);
        let (mut traffic, skills) = gateway.metrics().traffic();
        let region = |region: Region| {
            let lane = |family: Family| {
                let lane = gateway.limits().snapshot(region, family);
                let learned = gateway.limits().learned(region, family);
                (family.name(), LaneStatus { lane, learned })
            };
            let status = RegionStatus {
                upstream: policy.routes.upstream(region).to_string(),
                traffic: traffic.remove(region.name()).unwrap_or_default(),
                breaker: gateway.upstream().breaker(region),
                limits: Family::ALL.into_iter().map(lane).collect(),
            };
            (region.name(), status)
        };
        let (flights, waiters) = gateway.flights();
        let status = StatusPage {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.state.started.elapsed().as_secs(),
            ready: self.state.ready.load(Ordering::Relaxed),
            connections: self.state.connections.load(Ordering::Relaxed),
            regions: Region::ALL.into_iter().map(region).collect(),
            skills,
            cache: CacheSize {
                entries: gateway.cache().len(),
                max_entries: policy.cache.max_entries,
                bytes: gateway.cache().weight_bytes(),
                max_bytes: policy.cache.max_bytes,
            },
            flights,
            waiters,
            last_reload: self.state.last_reload.lock().clone(),
        };
        match serde_json::to_vec_pretty(&status) {
            Ok(json) => respond(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    fn metrics(&self) -> Response<Bytes> {
        self.set_gauges();
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        respond(StatusCode::OK, kind, self.gateway.metrics().to_text())
    }

    fn set_gauges(&self) {
        let gateway = &self.gateway;
        let gauges = gateway.metrics().gauges();
        for region in Region::ALL {
            let state = match gateway.upstream().breaker(region).state {
                Phase::Closed => 0,
                Phase::HalfOpen => 1,
                Phase::Open => 2,
            };
            let labels = RegionLabels::new(region);
            gauges.breaker_state.get_or_create(&labels).set(state);
            for family in Family::ALL {
                let labels = LaneLabels::new(region, family);
                let lane = gateway.limits().snapshot(region, family);
                let set = |gauge: &LaneGauge, value| {
                    gauge.get_or_create(&labels).set(value);
                };
                set(&gauges.queued, saturating(lane.queued));
                set(&gauges.in_flight, lane.in_flight.into());
                set(&gauges.learned_skills, saturating(lane.learned_skills));
                set(&gauges.paused_skills, saturating(lane.paused_skills));
            }
        }
        let (flights, waiters) = gateway.flights();
        gauges.cache_entries.set(saturating(gateway.cache().len()));
        gauges
            .cache_bytes
            .set(saturating(gateway.cache().weight_bytes()));
        gauges.flights.set(saturating(flights));
        gauges.waiters.set(saturating(waiters));
        gauges
            .connections
            .set(self.state.connections.load(Ordering::Relaxed));
    }
}

/// A number as the value of a gauge.
fn saturating(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn text(status: StatusCode, text: &str) -> Response<Bytes> {
    respond(status, "text/plain; charset=utf-8", text.to_owned())
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
