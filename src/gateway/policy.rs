//! The configuration of the pipeline and of the rooms a request passes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::Capacity;
use crate::coalesce;
use crate::limits::LimitsConfig;
use crate::route::RouteTable;
use crate::upstream;

/// Validated values. A request takes one snapshot and never sees two.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Regions, names, upstreams and rules.
    pub routes: RouteTable,
    /// How long callers wait.
    pub deadline: DeadlinePolicy,
    /// The largest request body of a GET that is read and discarded.
    pub max_discarded_body_bytes: usize,
    /// Whether each request is logged.
    pub log_requests: bool,
    /// How much may be stored.
    pub cache: Capacity,
    /// How many requests may wait for calls in flight.
    pub coalesce: coalesce::Policy,
    /// Quotas and queues.
    pub limits: LimitsConfig,
    /// Connections, time-outs, retries and breakers.
    pub upstream: upstream::Policy,
}

/// How long callers wait; `[deadline]` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadlinePolicy {
    /// For requests that name no time-out.
    #[serde(with = "crate::duration")]
    pub default: Duration,
    /// The longest time-out that a request may name.
    #[serde(with = "crate::duration")]
    pub max: Duration,
}
