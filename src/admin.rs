//! The admin listener: for operators, probes and scrapers, not for skills.
//!
//! | GET | meaning |
//! |---|---|
//! | `/-/healthy` | 200 as long as the process can answer |
//! | `/-/ready` | 200 while requests are accepted, 503 before and during a stop |
//! | `/-/status` | JSON: traffic per region and skill, cache, flights, queues, quotas, breakers, last reload |
//! | `/metrics` | Prometheus, in the OpenMetrics text format |
//!
//! Nothing here changes anything, and nothing shows a token or a person.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::limits::{Family, LaneSnapshot, Learned};
use crate::metrics::{LaneLabels, RegionLabels, Traffic};
use crate::region::Region;
use crate::upstream::breaker::{BreakerSnapshot, Phase};

/// Where operators are served.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The address to listen on, if any.
    pub address: Option<SocketAddr>,
}

/// What there is to tell beyond the gateway's own figures.
#[derive(Debug)]
pub struct State {
    ready: AtomicBool,
    connections: AtomicI64,
    started: Instant,
    last_reload: Mutex<Option<Reload>>,
}

/// How the last reload went.
#[derive(Clone, Debug, Serialize)]
pub struct Reload {
    /// When, as RFC 3339 has it.
    pub at: String,
    /// Whether the new configuration is in force.
    pub applied: bool,
    /// What was wrong with it.
    pub problems: Vec<String>,
    /// What is in the file but takes a restart.
    pub needs_restart: Vec<&'static str>,
}

impl State {
    /// Not ready yet.
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

    /// Notes how a reload went.
    pub fn note_reload(
        &self,
        applied: bool,
        problems: Vec<String>,
        needs_restart: Vec<&'static str>,
    ) {
        let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut last = self
            .last_reload
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(Reload {
            at,
            applied,
            problems,
            needs_restart,
        });
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// One open connection.
#[derive(Debug)]
pub struct OpenConnection(Arc<State>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The status page.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    connections: i64,
    regions: BTreeMap<&'static str, RegionStatus>,
    skills: BTreeMap<String, Traffic>,
    cache: CacheSize,
    flights: usize,
    waiters: usize,
    last_reload: Option<Reload>,
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

/// Answers requests of operators.
#[derive(Debug)]
pub struct Admin {
    gateway: Arc<Gateway>,
    state: Arc<State>,
}

impl Admin {
    /// For one gateway.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, state: Arc<State>) -> Self {
        Self { gateway, state }
    }

    /// Answers one request.
    #[must_use]
    pub fn handle<B>(&self, request: &Request<B>) -> Response<Bytes> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
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
                "there are /-/healthy, /-/ready, /-/status and /metrics\n",
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
        let status = Status {
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
            last_reload: self
                .state
                .last_reload
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        };
        match serde_json::to_vec_pretty(&status) {
            Ok(json) => respond(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    fn metrics(&self) -> Response<Bytes> {
        let gateway = &self.gateway;
        let levels = gateway.metrics().levels();
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for region in Region::ALL {
            let state = match gateway.upstream().breaker(region).state {
                Phase::Closed => 0,
                Phase::HalfOpen => 1,
                Phase::Open => 2,
            };
            let labels = RegionLabels::new(region);
            levels.breaker_state.get_or_create(&labels).set(state);
            for family in Family::ALL {
                let (labels, lane) = (
                    LaneLabels::new(region, family),
                    gateway.limits().snapshot(region, family),
                );
                levels.queued.get_or_create(&labels).set(gauge(lane.queued));
                levels
                    .in_flight
                    .get_or_create(&labels)
                    .set(lane.in_flight.into());
                let learned = levels.learned_skills.get_or_create(&labels);
                learned.set(gauge(lane.learned_skills));
                let paused = levels.paused_skills.get_or_create(&labels);
                paused.set(gauge(lane.paused_skills));
            }
        }
        levels
            .cache_entries
            .set(i64::try_from(gateway.cache().len()).unwrap_or(i64::MAX));
        levels
            .cache_bytes
            .set(i64::try_from(gateway.cache().weight_bytes()).unwrap_or(i64::MAX));
        let (flights, waiters) = gateway.flights();
        levels.flights.set(gauge(flights));
        levels.waiters.set(gauge(waiters));
        levels
            .connections
            .set(self.state.connections.load(Ordering::Relaxed));
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        respond(StatusCode::OK, kind, gateway.metrics().to_text())
    }
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
