//! What the status page and the metrics show of a lane.

use serde::Serialize;

use super::quota::Quota;

/// The state of one lane.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LaneSnapshot {
    /// The region's quota.
    pub quota_region: Option<Quota>,
    /// The default quota of a skill.
    pub quota_skill: Option<Quota>,
    /// Permits held.
    pub in_flight: u32,
    /// Slots of the region's quota that are held or cooling down.
    pub region_slots_used: usize,
    /// Requests that wait for a permit.
    pub queued: usize,
    /// Skills in the table.
    pub skills: usize,
    /// Skills with a learned quota.
    pub learned_skills: usize,
    /// Skills paused after a 429.
    pub paused_skills: usize,
    /// The smoothed time from sending a request to the head of its response.
    pub round_trip_seconds: f64,
}

/// What is learned of one skill's quota.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// The skill; absent for requests without a skill.
    pub skill: Option<String>,
    /// The rate in force.
    pub limit_per_second: f64,
    /// The highest rate believed to be allowed. The rate in force is lower after a
    /// 429 and higher during a probe.
    pub safe_per_second: f64,
    /// 0 for a first guess; approaches 1 each time the same ceiling is met again.
    pub confidence: f64,
    /// The number of 429 responses.
    pub throttled: u64,
    /// The age of the last 429.
    pub last_429_seconds_ago: u64,
    /// The rest of the pause.
    pub paused_seconds: f64,
    /// Requests that wait for a permit.
    pub queued: usize,
}

/// The most skills listed with what is learned of them.
pub const MAX_LEARNED_LISTED: usize = 100;
