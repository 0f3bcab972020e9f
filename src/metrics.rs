//! Counters for Prometheus, and traffic per region and skill for the status page.
//!
//! Every label has a bounded set of values: regions, families, statuses, kinds of
//! error. Skills are no labels; the status page lists up to
//! [`MAX_SKILLS_LISTED`] of them and adds the rest up as `other`.

mod traffic;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::cache::status::{CacheStatus, Forward};
use crate::error::Kind;
use crate::limits;
use crate::region::Region;
use crate::token::SkillId;
use traffic::Table;
pub use traffic::{MAX_SKILLS_LISTED, Traffic};

/// The status under which a request counts whose client left before the answer,
/// as nginx logs it.
pub const CLIENT_LEFT: u16 = 499;

/// What one request came to, for counting.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The region, if it got so far.
    pub region: Option<Region>,
    /// The family, if it got so far.
    pub family: Option<limits::Family>,
    /// The skill, if its token names one.
    pub skill: Option<&'a SkillId>,
    /// What the cache did.
    pub cache: Option<CacheStatus>,
    /// The status sent, or [`CLIENT_LEFT`].
    pub status: u16,
    /// The failure, if it was the gateway's own.
    pub error: Option<Kind>,
    /// How long it waited for quotas.
    pub queue_wait: Duration,
    /// How long it took in all.
    pub total: Duration,
}

/// The counters of one process. All methods take `&self` and none waits.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<DurationLabels, Histogram>,
    attempts: Family<AttemptLabels, Counter>,
    upstream_duration: Family<LaneLabels, Histogram>,
    queue_wait: Family<LaneLabels, Histogram>,
    errors: Family<ErrorLabels, Counter>,
    retries_denied: Family<RegionLabels, Counter>,
    breaker_openings: Family<RegionLabels, Counter>,
    contradictions: Family<RegionLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
    levels: Levels,
    traffic: Table,
    /// What most requests come to, found once rather than by their labels: by region,
    /// for hits and for misses.
    usual: [[OnceLock<(Counter, Histogram)>; 2]; Region::ALL.len()],
    /// The same of the calls of each lane.
    lanes: [[LaneSeries; limits::Family::ALL.len()]; Region::ALL.len()],
}

/// What is counted of the calls of one lane.
#[derive(Debug, Default)]
struct LaneSeries {
    /// Those that were answered 200.
    ok: OnceLock<Counter>,
    duration: OnceLock<Histogram>,
    queue_wait: OnceLock<Histogram>,
}

/// What is read from elsewhere whenever the metrics are.
#[derive(Debug)]
pub struct Levels {
    /// Requests that wait for quotas.
    pub queued: Family<LaneLabels, Gauge>,
    /// Calls on their way.
    pub in_flight: Family<LaneLabels, Gauge>,
    /// Skills whose quota is being learned.
    pub learned_skills: Family<LaneLabels, Gauge>,
    /// Skills that are paused after a 429.
    pub paused_skills: Family<LaneLabels, Gauge>,
    /// Breakers: 0 closed, 1 half-open, 2 open.
    pub breaker_state: Family<RegionLabels, Gauge>,
    /// Stored answers.
    pub cache_entries: Gauge,
    /// Their size.
    pub cache_bytes: Gauge,
    /// Calls that requests wait for together.
    pub flights: Gauge,
    /// Requests that wait for them.
    pub waiters: Gauge,
    /// Open connections of clients.
    pub connections: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    region: &'static str,
    family: &'static str,
    cache: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    family: &'static str,
    cache: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    region: &'static str,
    family: &'static str,
    outcome: String,
}

/// A region and a family of calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LaneLabels {
    region: &'static str,
    family: &'static str,
}

impl LaneLabels {
    /// The labels of one lane.
    #[must_use]
    pub fn new(region: Region, family: limits::Family) -> Self {
        Self {
            region: region.name(),
            family: family.name(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: &'static str,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RegionLabels {
    region: &'static str,
}

impl RegionLabels {
    /// The label of one region.
    #[must_use]
    pub fn new(region: Region) -> Self {
        Self {
            region: region.name(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

/// From a hit's tens of microseconds to the longest deadline.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5,
    5.0, 8.0,
];

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// A metric at zero that `registry` shows.
fn shown<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// The same for times, by their labels.
fn durations<L>(registry: &mut Registry, name: &str, help: &str) -> Durations<L>
where
    L: EncodeLabelSet + Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static,
{
    let metric = Family::new_with_constructor(histogram as fn() -> Histogram);
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

impl Levels {
    fn shown(r: &mut Registry) -> Self {
        let cache_bytes = Gauge::default();
        r.register_with_unit(
            "cache_size",
            "Stored answers with bookkeeping",
            Unit::Bytes,
            cache_bytes.clone(),
        );
        Self {
            queued: shown(r, "queued", "Requests that wait for quotas"),
            in_flight: shown(r, "in_flight", "Calls to Alexa on their way"),
            learned_skills: shown(
                r,
                "learned_skills",
                "Skills whose quota is being learned after a 429",
            ),
            paused_skills: shown(r, "paused_skills", "Skills that are paused after a 429"),
            breaker_state: shown(
                r,
                "breaker_state",
                "The breaker of a region: 0 closed, 1 half-open, 2 open",
            ),
            cache_entries: shown(r, "cache_entries", "Stored answers"),
            cache_bytes,
            flights: shown(r, "flights", "Calls that requests wait for together"),
            waiters: shown(r, "waiters", "Requests that wait for a flight"),
            connections: shown(r, "connections", "Open connections of clients"),
        }
    }
}

impl Metrics {
    /// All counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("alexa_gateway");
        let r = &mut registry;
        let requests = shown(r, "requests", "Requests answered");
        let request_duration = durations(r, "request_duration", "From request to answer's head");
        let attempts = shown(r, "upstream_attempts", "Calls to Alexa by status or error");
        let upstream_duration = durations(r, "upstream_duration", "Time of one call to Alexa");
        let queue_wait = durations(
            r,
            "queue_wait",
            "Wait for quotas, of requests that called Alexa",
        );
        let retries_denied: Family<RegionLabels, Counter> =
            shown(r, "retries_denied", "Retries that the budget did not allow");
        let breaker_openings: Family<RegionLabels, Counter> = shown(
            r,
            "breaker_openings",
            "Times that the breaker of a region opened; a failed probe is none",
        );
        let errors: Family<ErrorLabels, Counter> =
            shown(r, "errors", "Requests that the gateway refused or failed");
        let contradictions = shown(
            r,
            "region_contradictions",
            "Requests whose token is meant for another region",
        );
        let reloads: Family<ReloadLabels, Counter> =
            shown(r, "config_reloads", "Reloads of the configuration");
        let levels = Levels::shown(r);
        // A series that begins at zero shows its first increase.
        for kind in Kind::ALL {
            drop(errors.get_or_create(&ErrorLabels { kind: kind.label() }));
        }
        for region in Region::ALL {
            drop(retries_denied.get_or_create(&RegionLabels::new(region)));
            drop(breaker_openings.get_or_create(&RegionLabels::new(region)));
        }
        for result in ["applied", "rejected"] {
            drop(reloads.get_or_create(&ReloadLabels { result }));
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
            levels,
            traffic: Table::default(),
            usual: Default::default(),
            lanes: Default::default(),
        }
    }

    /// Counts one request.
    pub fn request(&self, outcome: &Outcome<'_>) {
        let duration = outcome.total.as_secs_f64();
        let usual = match outcome.cache {
            Some(CacheStatus::Hit(_)) => Some(0),
            Some(CacheStatus::Forwarded {
                forward: Forward::Miss,
                collapsed: false,
                ..
            }) => Some(1),
            _ => None,
        };
        match (outcome.region, usual, outcome.status) {
            (Some(region), Some(usual), 200) => {
                let usual = &self.usual[region.index()][usual];
                let (count, durations) = usual.get_or_init(|| self.series(outcome));
                count.inc();
                durations.observe(duration);
            }
            _ => {
                let (count, durations) = self.series(outcome);
                count.inc();
                durations.observe(duration);
            }
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
        if let (true, Some(region), Some(family)) = (called, outcome.region, outcome.family) {
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

    /// Where a request of this outcome and its duration are counted.
    fn series(&self, outcome: &Outcome<'_>) -> (Counter, Histogram) {
        let family = outcome.family.map_or("none", limits::Family::name);
        let cache = outcome.cache.as_ref().map_or("none", CacheStatus::label);
        let labels = RequestLabels {
            region: outcome.region.map_or("none", Region::name),
            family,
            cache,
            status: outcome.status,
        };
        let durations = DurationLabels { family, cache };
        (
            self.requests.get_or_create_owned(&labels),
            self.request_duration.get_or_create_owned(&durations),
        )
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

    /// Counts a retry that the budget of `region` did not allow.
    pub fn retry_denied(&self, region: Region) {
        self.retries_denied
            .get_or_create(&RegionLabels::new(region))
            .inc();
    }

    /// Counts an opening of the breaker of `region`.
    pub fn breaker_opened(&self, region: Region) {
        self.breaker_openings
            .get_or_create(&RegionLabels::new(region))
            .inc();
    }

    /// Counts a request for `region` whose token is meant for another one.
    pub fn contradiction(&self, region: Region) {
        self.contradictions
            .get_or_create(&RegionLabels::new(region))
            .inc();
    }

    /// Counts a reload.
    pub fn reload(&self, applied: bool) {
        let result = if applied { "applied" } else { "rejected" };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    /// The gauges, to be set before [`Metrics::to_text`].
    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Everything in the OpenMetrics text format.
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

    fn outcome(skill: Option<&SkillId>) -> Outcome<'_> {
        Outcome {
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
