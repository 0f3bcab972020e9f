//! The counters of the mock; control calls are not counted. A request is counted when
//! it arrives, its status when the response is sent, so a stalled request has none.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fault::Fault;
use crate::region::Region;

/// A snapshot of the counters since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// By the name of the region.
    pub regions: BTreeMap<&'static str, RegionCounters>,
    /// By skill id; `opaque` stands for tokens that name no skill.
    pub skills: BTreeMap<String, SkillCounters>,
    /// The most requests that were in flight at once.
    pub peak_concurrent: u64,
}

/// The counters of one region.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RegionCounters {
    /// Connections accepted, those of control calls included.
    pub connections: u64,
    /// Requests that arrived.
    pub requests: u64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests by the template of their path.
    pub operations: BTreeMap<&'static str, u64>,
    /// Faults, scripted ones included.
    pub faults: BTreeMap<Fault, u64>,
}

/// The counters of one skill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SkillCounters {
    /// Requests with the skill's token.
    pub requests: u64,
    /// Responses with status 429.
    pub throttled: u64,
}

impl Counters {
    /// Returns the counters of a region.
    #[must_use]
    pub fn region(&self, region: Region) -> RegionCounters {
        self.regions.get(region.name()).cloned().unwrap_or_default()
    }

    /// Returns the requests of all regions.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.regions.values().map(|region| region.requests).sum()
    }

    /// Returns the connections to all regions.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.regions.values().map(|region| region.connections).sum()
    }

    /// Returns the responses of all regions with this status.
    #[must_use]
    pub fn status(&self, status: u16) -> u64 {
        let of = |region: &RegionCounters| region.statuses.get(&status).copied();
        self.regions.values().filter_map(of).sum()
    }

    pub(super) fn connected(&mut self, region: Region) {
        self.at(region).connections += 1;
    }

    pub(super) fn arrived(
        &mut self,
        region: Region,
        operation: &'static str,
        skill: Option<&str>,
        concurrent: u64,
    ) {
        let seen = self.at(region);
        seen.requests += 1;
        *seen.operations.entry(operation).or_default() += 1;
        if let Some(skill) = skill {
            self.skills.entry(skill.to_owned()).or_default().requests += 1;
        }
        self.peak_concurrent = self.peak_concurrent.max(concurrent);
    }

    pub(super) fn struck(&mut self, region: Region, fault: Fault) {
        *self.at(region).faults.entry(fault).or_default() += 1;
    }

    pub(super) fn answered(&mut self, region: Region, skill: Option<&str>, status: u16) {
        *self.at(region).statuses.entry(status).or_default() += 1;
        if let (Some(skill), 429) = (skill, status) {
            self.skills.entry(skill.to_owned()).or_default().throttled += 1;
        }
    }

    fn at(&mut self, region: Region) -> &mut RegionCounters {
        self.regions.entry(region.name()).or_default()
    }
}
