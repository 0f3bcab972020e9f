//! How the modelled Alexa behaves, and what changes during the trace.

use std::time::Duration;

use crate::lab::window::WindowKind;
use crate::limits::Quota;
use crate::region::Region;
use crate::token::SkillId;

/// The behaviour of the modelled Alexa.
#[derive(Clone, Debug)]
pub struct Alexa {
    /// The mean time from call to response.
    pub latency: Duration,
    /// The largest deviation from `latency`, either way, uniformly distributed.
    pub jitter: Duration,
    /// The quota of each skill in each region.
    pub skill_quota: Option<Quota>,
    /// The quota of all skills together in each region.
    pub region_quota: Option<Quota>,
    /// How requests are counted against both quotas.
    pub window: WindowKind,
    /// Whether a 429 carries `Retry-After`, in whole seconds, rounded up.
    pub retry_after: bool,
    /// The share of calls that are counted and never answered.
    pub timeouts: f64,
    /// The share of calls that are counted and then lose their connection.
    pub resets: f64,
    /// The share of calls that are counted and answered 500.
    pub errors: f64,
    /// Changes during the trace, in any order.
    pub changes: Vec<Change>,
    /// Outages of regions.
    pub outages: Vec<Outage>,
}

impl Default for Alexa {
    /// Answers every call within 60 ± 20 ms.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(60),
            jitter: Duration::from_millis(20),
            skill_quota: None,
            region_quota: None,
            window: WindowKind::Sliding,
            retry_after: false,
            timeouts: 0.0,
            resets: 0.0,
            errors: 0.0,
            changes: Vec::new(),
            outages: Vec::new(),
        }
    }
}

/// A change of one setting.
#[derive(Clone, Debug)]
pub struct Change {
    /// From the start of the trace.
    pub at: Duration,
    /// The new value.
    pub to: Setting,
}

/// The settings that can change during a trace.
#[derive(Clone, Debug)]
pub enum Setting {
    /// The quota of every skill in each region.
    SkillQuota(Option<Quota>),
    /// The quota of one skill in each region.
    QuotaOf(SkillId, Option<Quota>),
    /// The quota of all skills together in each region.
    RegionQuota(Option<Quota>),
    /// Latency and jitter.
    Latency(Duration, Duration),
}

/// An outage of one region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// The region.
    pub region: Region,
    /// When it starts, from the start of the trace.
    pub from: Duration,
    /// How long it lasts.
    pub length: Duration,
    /// What callers see.
    pub kind: OutageKind,
}

impl Outage {
    /// Whether the region is out at a moment of the trace.
    pub(super) fn covers(&self, region: Region, now: Duration) -> bool {
        let since = now.checked_sub(self.from);
        self.region == region && since.is_some_and(|since| since < self.length)
    }
}

/// What callers see of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// Connections are refused.
    Refused,
    /// Calls are never answered.
    Silent,
    /// Calls are answered 503.
    Unavailable,
}
