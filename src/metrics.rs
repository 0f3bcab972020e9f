//! Metrics for Prometheus, and traffic per region and skill for the status page.
//!
//! Every label has a bounded set of values: regions, families, statuses, kinds of
//! error. Skills are not labels. The status page lists up to [`MAX_SKILLS_LISTED`] of
//! them, and adds up the rest as `other`.

mod gauges;
mod labels;
mod register;
mod traffic;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::cache::status::{CacheStatus, Forward};
use crate::error::Kind;
use crate::limits;
use crate::region::Region;
use crate::token::SkillId;
pub use gauges::{Gauges, LaneGauge};
use labels::{AttemptLabels, DurationLabels, ErrorLabels, ReloadLabels, RequestLabels};
pub use labels::{LaneLabels, RegionLabels};
use register::{Durations, register, register_durations};
use traffic::TrafficTable;
pub use traffic::{MAX_SKILLS_LISTED, Traffic};

/// The status of a request whose client left before the response, as in nginx's log.
pub const CLIENT_LEFT: u16 = 499;

/// How one request ended.
#[derive(Clone, Debug)]
pub struct RequestOutcome<'a> {
    /// The region, if it was routed.
    pub region: Option<Region>,
    /// The family of quotas, if it was routed.
    pub family: Option<limits::Family>,
    /// The skill, if its token names one.
    pub skill: Option<&'a SkillId>,
    /// How the cache handled it.
    pub cache: Option<CacheStatus>,
    /// The status sent, or [`CLIENT_LEFT`].
    pub status: u16,
    /// The kind of the gateway's own error, if the client got one.
    pub error: Option<Kind>,
    /// The time it waited for quotas.
    pub queue_wait: Duration,
    /// The time from request to response head.
    pub total: Duration,
}

/// The metrics of one process. No method waits.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Durations<DurationLabels>,
    attempts: Family<AttemptLabels, Counter>,
    upstream_duration: Durations<LaneLabels>,
    queue_wait: Durations<LaneLabels>,
    errors: Family<ErrorLabels, Counter>,
    retries_denied: Family<RegionLabels, Counter>,
    breaker_openings: Family<RegionLabels, Counter>,
    contradictions: Family<RegionLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
    gauges: Gauges,
    traffic: TrafficTable,
    /// The series of most requests, found by index instead of by their labels.
    usual: [UsualSeries; Region::ALL.len()],
    /// The same for the calls of each lane.
    lanes: [[LaneSeries; limits::Family::ALL.len()]; Region::ALL.len()],
}

/// The series of one region's usual requests with status 200.
#[derive(Debug, Default)]
struct UsualSeries {
    hit: OnceLock<RequestSeries>,
    miss: OnceLock<RequestSeries>,
}

/// The series in which a request is counted.
#[derive(Debug)]
struct RequestSeries {
    count: Counter,
    duration: Histogram,
}

impl RequestSeries {
    fn observe(&self, seconds: f64) {
        self.count.inc();
        self.duration.observe(seconds);
    }
}

/// The series of the calls of one lane.
#[derive(Debug, Default)]
struct LaneSeries {
    /// Calls with status 200.
    ok: OnceLock<Counter>,
    duration: OnceLock<Histogram>,
    queue_wait: OnceLock<Histogram>,
}

impl Metrics {
    /// Creates all metrics, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("alexa_gateway");
        let r = &mut registry;
        let requests = register(r, "requests", "Requests from skills");
        let request_duration =
            register_durations(r, "request_duration", "Time from request to response head");
        let attempts = register(r, "upstream_attempts", "Calls to Alexa by status or error");
        let upstream_duration =
            register_durations(r, "upstream_duration", "Duration of a call to Alexa");
        let queue_wait = register_durations(
            r,
            "queue_wait",
            "Time that requests waited for quotas before a call to Alexa",
        );
        let retries_denied: Family<RegionLabels, Counter> =
            register(r, "retries_denied", "Retries denied by the retry budget");
        let breaker_openings: Family<RegionLabels, Counter> = register(
            r,
            "breaker_openings",
            "Breaker open transitions (failed probes excluded)",
        );
        let errors: Family<ErrorLabels, Counter> = register(
            r,
            "errors",
            "Error responses of the gateway itself, by kind",
        );
        let contradictions = register(
            r,
            "region_contradictions",
            "Requests whose token is for another region than the request",
        );
        let reloads: Family<ReloadLabels, Counter> =
            register(r, "config_reloads", "Configuration reloads by result");
        let gauges = Gauges::register(r);
        // Prometheus sees a first increase only of a series that already exists.
        for kind in Kind::ALL {
            drop(errors.get_or_create(&ErrorLabels { kind: kind.label() }));
        }
        for region in Region::ALL {
            drop(retries_denied.get_or_create(&RegionLabels::new(region)));
            drop(breaker_openings.get_or_create(&RegionLabels::new(region)));
        }
        for labels in &ReloadLabels::ALL {
            drop(reloads.get_or_create(labels));
        }
        Self {
            registry,
            requests,
            request_duration,
            attempts,
            upstream_duration,
            queue_wait,
            errors,
            retries_denied,
            breaker_openings,
            contradictions,
            reloads,
            gauges,
            traffic: TrafficTable::default(),
            usual: Default::default(),
            lanes: Default::default(),
        }
    }

    /// Counts one request.
    pub fn request(&self, outcome: &RequestOutcome<'_>) {
        let seconds = outcome.total.as_secs_f64();
        match self.usual_series(outcome) {
            Some(series) => series.get_or_init(|| self.series(outcome)).observe(seconds),
            None => self.series(outcome).observe(seconds),
        }
        if let Some(kind) = outcome.error {
            self.errors
                .get_or_create(&ErrorLabels { kind: kind.label() })
                .inc();
        }
        let called = matches!(
            outcome.cache,
            Some(CacheStatus::Forwarded {
                collapsed: false,
                ..
            })
        );
        if called && let (Some(region), Some(family)) = (outcome.region, outcome.family) {
            let waits = self.lane(region, family).queue_wait.get_or_init(|| {
                let labels = LaneLabels::new(region, family);
                self.queue_wait.get_or_create_owned(&labels)
            });
            waits.observe(outcome.queue_wait.as_secs_f64());
        }
        self.traffic.add(outcome.region, outcome.skill, |traffic| {
            traffic.requests.count();
            match outcome.cache {
                Some(CacheStatus::Hit(_) | CacheStatus::HitStale(_)) => traffic.hits.count(),
                Some(CacheStatus::Forwarded {
                    collapsed: true, ..
                }) => traffic.collapsed.count(),
                _ => {}
            }
            match outcome.error {
                Some(Kind::Quota | Kind::QueueFull) => traffic.refused_429.count(),
                Some(_) => traffic.errors.count(),
                None => {}
            }
        });
    }

    /// The series of a usual request: a hit or a miss, with status 200.
    fn usual_series(&self, outcome: &RequestOutcome<'_>) -> Option<&OnceLock<RequestSeries>> {
        let series = &self.usual[outcome.region?.index()];
        match outcome.cache? {
            _ if outcome.status != 200 => None,
            CacheStatus::Hit(_) => Some(&series.hit),
            CacheStatus::Forwarded {
                forward: Forward::Miss,
                collapsed: false,
                ..
            } => Some(&series.miss),
            _ => None,
        }
    }

    /// The series of a request, found by its labels.
    fn series(&self, outcome: &RequestOutcome<'_>) -> RequestSeries {
        let family = outcome.family.map_or("none", limits::Family::name);
        let cache = outcome.cache.as_ref().map_or("none", CacheStatus::label);
        let labels = RequestLabels {
            region: outcome.region.map_or("none", Region::name),
            family,
            cache,
            status: outcome.status,
        };
        let durations = DurationLabels { family, cache };
        RequestSeries {
            count: self.requests.get_or_create_owned(&labels),
            duration: self.request_duration.get_or_create_owned(&durations),
        }
    }

    /// Counts one call to Alexa.
    pub fn attempt(
        &self,
        region: Region,
        family: limits::Family,
        skill: Option<&SkillId>,
        outcome: Result<StatusCode, Kind>,
        took: Duration,
    ) {
        let throttled = outcome == Ok(StatusCode::TOO_MANY_REQUESTS);
        let lane = self.lane(region, family);
        let durations = lane.duration.get_or_init(|| {
            let labels = LaneLabels::new(region, family);
            self.upstream_duration.get_or_create_owned(&labels)
        });
        durations.observe(took.as_secs_f64());
        let attempts = || self.attempts(region, family, outcome);
        match outcome {
            Ok(StatusCode::OK) => lane.ok.get_or_init(attempts).inc(),
            _ => attempts().inc(),
        };
        self.traffic.add(Some(region), skill, |traffic| {
            traffic.upstream_attempts.count();
            if throttled {
                traffic.upstream_429.count();
            }
        });
    }

    fn attempts(
        &self,
        region: Region,
        family: limits::Family,
        outcome: Result<StatusCode, Kind>,
    ) -> Counter {
        let outcome = match outcome {
            Ok(status) => status.as_str().to_owned(),
            Err(kind) => kind.label().to_owned(),
        };
        self.attempts.get_or_create_owned(&AttemptLabels {
            region: region.name(),
            family: family.name(),
            outcome,
        })
    }

    fn lane(&self, region: Region, family: limits::Family) -> &LaneSeries {
        &self.lanes[region.index()][family as usize]
    }

    /// Counts a retry denied by the budget of `region`.
    pub fn retry_denied(&self, region: Region) {
        self.retries_denied
            .get_or_create(&RegionLabels::new(region))
            .inc();
    }

    /// Counts an open transition of the breaker of `region`.
    pub fn breaker_opened(&self, region: Region) {
        self.breaker_openings
            .get_or_create(&RegionLabels::new(region))
            .inc();
    }

    /// Counts a request for `region` whose token is for another one.
    pub fn contradiction(&self, region: Region) {
        self.contradictions
            .get_or_create(&RegionLabels::new(region))
            .inc();
    }

    /// Counts a reload of the configuration.
    pub fn reload(&self, applied: bool) {
        self.reloads.get_or_create(&ReloadLabels::of(applied)).inc();
    }

    /// The gauges, to be set before [`Metrics::to_text`].
    #[must_use]
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// All metrics, in the OpenMetrics text format.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }

    /// Traffic per region and per skill, by name.
    #[must_use]
    pub fn traffic(&self) -> (BTreeMap<&'static str, Traffic>, BTreeMap<String, Traffic>) {
        self.traffic.snapshot()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(skill: Option<&SkillId>) -> RequestOutcome<'_> {
        RequestOutcome {
            region: Some(Region::Eu),
            family: Some(limits::Family::Profile),
            skill,
            cache: Some(CacheStatus::Hit(Duration::ZERO)),
            status: 200,
            error: None,
            queue_wait: Duration::ZERO,
            total: Duration::from_millis(1),
        }
    }

    #[test]
    fn requests_are_counted_by_bounded_labels() {
        let metrics = Metrics::new();
        metrics.request(&outcome(None));
        let text = metrics.to_text();
        let line = r#"alexa_gateway_requests_total{region="eu",family="profile",cache="hit",status="200"} 1"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains(r#"alexa_gateway_errors_total{kind="quota"} 0"#));
        assert!(text.ends_with("# EOF\n"));
    }
}
