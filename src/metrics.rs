//! Counters for Prometheus, and traffic per region and skill for the status page.
//!
//! Every label has a bounded set of values: regions, families, statuses, kinds of
//! error. Skills are no labels; the status page lists up to
//! [`MAX_SKILLS_LISTED`] of them and adds the rest up as `other`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

use crate::cache::status::CacheStatus;
use crate::error::Kind;
use crate::limits;
use crate::route::Region;
use crate::token::SkillId;

/// How many skills the status page tells apart.
pub const MAX_SKILLS_LISTED: usize = 1000;

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

/// Requests of one region or skill, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// All requests.
    pub requests: u64,
    /// Those that a stored answer served.
    pub hits: u64,
    /// Those that shared another's call.
    pub collapsed: u64,
    /// Those that the gateway answered 429 itself.
    pub refused_429: u64,
    /// Those that failed in the gateway for another reason.
    pub errors: u64,
    /// Calls to Alexa, each attempt counted.
    pub upstream_attempts: u64,
    /// Calls that Alexa answered 429.
    pub upstream_429: u64,
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
    traffic: Mutex<TrafficTable>,
}

/// What is read from elsewhere whenever the metrics are.
#[derive(Debug, Default)]
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

#[derive(Debug, Default)]
struct TrafficTable {
    regions: BTreeMap<Region, Traffic>,
    skills: BTreeMap<SkillId, Traffic>,
    other_skills: Traffic,
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

impl Metrics {
    /// All counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("alexa_gateway");
        let requests = Family::default();
        let request_duration = Family::new_with_constructor(histogram as fn() -> Histogram);
        let attempts = Family::default();
        let upstream_duration = Family::new_with_constructor(histogram as fn() -> Histogram);
        let queue_wait = Family::new_with_constructor(histogram as fn() -> Histogram);
        let errors: Family<ErrorLabels, Counter> = Family::default();
        let retries_denied: Family<RegionLabels, Counter> = Family::default();
        let breaker_openings: Family<RegionLabels, Counter> = Family::default();
        let contradictions = Family::default();
        let reloads: Family<ReloadLabels, Counter> = Family::default();
        let levels = Levels::default();
        let r = &mut registry;
        r.register("requests", "Requests answered", requests.clone());
        r.register_with_unit(
            "request_duration",
            "From request to answer's head",
            Unit::Seconds,
            request_duration.clone(),
        );
        r.register(
            "upstream_attempts",
            "Calls to Alexa by status or error",
            attempts.clone(),
        );
        r.register_with_unit(
            "upstream_duration",
            "Time of one call to Alexa",
            Unit::Seconds,
            upstream_duration.clone(),
        );
        r.register_with_unit(
            "queue_wait",
            "Wait for quotas, of requests that called Alexa",
            Unit::Seconds,
            queue_wait.clone(),
        );
        r.register(
            "retries_denied",
            "Retries that the budget did not allow",
            retries_denied.clone(),
        );
        r.register(
            "breaker_openings",
            "Times that the breaker of a region opened; a failed probe is none",
            breaker_openings.clone(),
        );
        r.register(
            "errors",
            "Requests that the gateway refused or failed",
            errors.clone(),
        );
        r.register(
            "region_contradictions",
            "Requests whose token is meant for another region",
            contradictions.clone(),
        );
        r.register(
            "config_reloads",
            "Reloads of the configuration",
            reloads.clone(),
        );
        r.register(
            "queued",
            "Requests that wait for quotas",
            levels.queued.clone(),
        );
        r.register(
            "in_flight",
            "Calls to Alexa on their way",
            levels.in_flight.clone(),
        );
        r.register(
            "breaker_state",
            "The breaker of a region: 0 closed, 1 half-open, 2 open",
            levels.breaker_state.clone(),
        );
        r.register(
            "learned_skills",
            "Skills whose quota is being learned after a 429",
            levels.learned_skills.clone(),
        );
        r.register(
            "paused_skills",
            "Skills that are paused after a 429",
            levels.paused_skills.clone(),
        );
        r.register(
            "cache_entries",
            "Stored answers",
            levels.cache_entries.clone(),
        );
        r.register_with_unit(
            "cache_size",
            "Stored answers with bookkeeping",
            Unit::Bytes,
            levels.cache_bytes.clone(),
        );
        r.register(
            "flights",
            "Calls that requests wait for together",
            levels.flights.clone(),
        );
        r.register(
            "waiters",
            "Requests that wait for a flight",
            levels.waiters.clone(),
        );
        r.register(
            "connections",
            "Open connections of clients",
            levels.connections.clone(),
        );
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
            traffic: Mutex::default(),
        }
    }

    /// Counts one request.
    pub fn request(&self, outcome: &Outcome<'_>) {
        let region = outcome.region.map_or("none", Region::name);
        let family = outcome.family.map_or("none", limits::Family::name);
        let cache = outcome.cache.as_ref().map_or("none", CacheStatus::label);
        let labels = RequestLabels {
            region,
            family,
            cache,
            status: outcome.status,
        };
        self.requests.get_or_create(&labels).inc();
        let durations = self
            .request_duration
            .get_or_create(&DurationLabels { family, cache });
        durations.observe(outcome.total.as_secs_f64());
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
            let waits = self
                .queue_wait
                .get_or_create(&LaneLabels::new(region, family));
            waits.observe(outcome.queue_wait.as_secs_f64());
        }
        self.with_traffic(outcome.region, outcome.skill, |traffic| {
            traffic.requests += 1;
            match outcome.cache {
                Some(CacheStatus::Hit(_) | CacheStatus::HitStale(_)) => traffic.hits += 1,
                Some(CacheStatus::Forwarded {
                    collapsed: true, ..
                }) => traffic.collapsed += 1,
                _ => {}
            }
            match outcome.error {
                Some(Kind::Quota | Kind::QueueFull) => traffic.refused_429 += 1,
                Some(_) => traffic.errors += 1,
                None => {}
            }
        });
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
        let outcome = match outcome {
            Ok(status) => status.as_str().to_owned(),
            Err(kind) => kind.label().to_owned(),
        };
        let labels = AttemptLabels {
            region: region.name(),
            family: family.name(),
            outcome,
        };
        self.attempts.get_or_create(&labels).inc();
        let durations = self
            .upstream_duration
            .get_or_create(&LaneLabels::new(region, family));
        durations.observe(took.as_secs_f64());
        self.with_traffic(Some(region), skill, |traffic| {
            traffic.upstream_attempts += 1;
            traffic.upstream_429 += u64::from(throttled);
        });
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
        let table = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        let regions = table
            .regions
            .iter()
            .map(|(region, traffic)| (region.name(), traffic.clone()));
        let skills = table
            .skills
            .iter()
            .map(|(skill, traffic)| (skill.to_string(), traffic.clone()));
        let mut skills: BTreeMap<_, _> = skills.collect();
        if table.other_skills != Traffic::default() {
            skills.insert("other".to_owned(), table.other_skills.clone());
        }
        (regions.collect(), skills)
    }

    fn with_traffic(
        &self,
        region: Option<Region>,
        skill: Option<&SkillId>,
        add: impl Fn(&mut Traffic),
    ) {
        let mut table = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(region) = region {
            add(table.regions.entry(region).or_default());
        }
        let Some(skill) = skill else { return };
        if let Some(traffic) = table.skills.get_mut(skill) {
            add(traffic);
        } else if table.skills.len() < MAX_SKILLS_LISTED {
            add(table.skills.entry(skill.clone()).or_default());
        } else {
            add(&mut table.other_skills);
        }
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

    #[test]
    fn invented_skills_cannot_fill_the_status_page() {
        let metrics = Metrics::new();
        for n in 0..MAX_SKILLS_LISTED + 5 {
            let skill = SkillId::parse(&format!("amzn1.ask.skill.{n}")).unwrap();
            metrics.request(&outcome(Some(&skill)));
        }
        let (regions, skills) = metrics.traffic();
        assert_eq!(regions["eu"].hits, 1005);
        assert_eq!(skills.len(), MAX_SKILLS_LISTED + 1);
        assert_eq!(skills["other"].requests, 5);
    }
}
