//! Label sets. Every label has a bounded set of values.

use prometheus_client::encoding::EncodeLabelSet;

use crate::limits;
use crate::region::Region;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) region: &'static str,
    pub(super) family: &'static str,
    pub(super) cache: &'static str,
    pub(super) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DurationLabels {
    pub(super) family: &'static str,
    pub(super) cache: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AttemptLabels {
    pub(super) region: &'static str,
    pub(super) family: &'static str,
    /// The status, or the kind of error.
    pub(super) outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ErrorLabels {
    pub(super) kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReloadLabels {
    result: &'static str,
}

impl ReloadLabels {
    pub(super) const ALL: [Self; 2] = [Self::of(true), Self::of(false)];

    pub(super) const fn of(applied: bool) -> Self {
        let result = if applied { "applied" } else { "rejected" };
        Self { result }
    }
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
