//! What the mock has seen. Control calls are not counted. A request is
//! counted when it arrives, its status or fault when that is decided, so a
//! stalled request shows as a request without a status.

use std::collections::BTreeMap;

use serde::Serialize;

use super::fault::Fault;
use crate::region::Region;

/// A snapshot of everything counted since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// By the name of the region.
    pub regions: BTreeMap<&'static str, RegionCounters>,
    /// By skill id; `opaque` stands for tokens that name no skill.
    pub skills: BTreeMap<String, SkillCounters>,
    /// The most requests that were being answered at once.
    pub peak_concurrent: u64,
}

/// What one region has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RegionCounters {
    /// Connections accepted, those of control calls included.
    pub connections: u64,
    /// Requests that arrived.
    pub requests: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests by the template of their path.
    pub operations: BTreeMap<&'static str, u64>,
    /// Faults that struck, scripted ones included.
    pub faults: BTreeMap<Fault, u64>,
}

/// What one skill has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SkillCounters {
    /// Requests with a token of the skill.
    pub requests: u64,
    /// Those answered 429.
    pub throttled: u64,
}

impl Counters {
    /// Returns what a region has seen.
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

    /// Returns the answers of all regions that had this status.
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
