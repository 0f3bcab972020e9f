//! Gauges: set by the admin listener from the gateway's state before each scrape.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{LaneLabels, RegionLabels};
use super::register::register;

/// A gauge for each lane.
pub type LaneGauge = Family<LaneLabels, Gauge>;

/// The gauges of one process.
#[derive(Debug)]
pub struct Gauges {
    /// Requests waiting for quotas.
    pub queued: LaneGauge,
    /// Calls to Alexa in flight.
    pub in_flight: LaneGauge,
    /// Skills whose quota is being learned.
    pub learned_skills: LaneGauge,
    /// Skills paused after a 429.
    pub paused_skills: LaneGauge,
    /// Breaker states: 0 closed, 1 half-open, 2 open.
    pub breaker_state: Family<RegionLabels, Gauge>,
    /// Stored responses.
    pub cache_entries: Gauge,
    /// Memory used by stored responses.
    pub cache_bytes: Gauge,
    /// Flights: calls shared by waiting requests.
    pub flights: Gauge,
    /// Requests waiting for a flight.
    pub waiters: Gauge,
    /// Open client connections.
    pub connections: Gauge,
}

impl Gauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let r = registry;
        let cache_bytes = Gauge::default();
        r.register_with_unit(
            "cache_size",
            "Memory used by stored responses, bookkeeping included",
            Unit::Bytes,
            cache_bytes.clone(),
        );
        Self {
            queued: register(r, "queued", "Requests waiting for quotas"),
            in_flight: register(r, "in_flight", "Calls to Alexa in flight"),
            learned_skills: register(
                r,
                "learned_skills",
                "Skills whose quota is being learned after a 429",
            ),
            paused_skills: register(r, "paused_skills", "Skills paused after a 429"),
            breaker_state: register(
                r,
                "breaker_state",
                "Breaker state by region: 0 closed, 1 half-open, 2 open",
            ),
            cache_entries: register(r, "cache_entries", "Stored responses"),
            cache_bytes,
            flights: register(r, "flights", "Calls to Alexa that waiting requests share"),
            waiters: register(r, "waiters", "Requests waiting for a flight"),
            connections: register(r, "connections", "Open client connections"),
        }
    }
}
