//! What operators configure about limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::family::Family;
use super::quota::Quota;
use crate::token::SkillId;

/// Everything that is configured about limits.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Limits for [`Family::Profile`].
    pub profile: FamilyLimits,
    /// Limits for [`Family::Passthrough`].
    pub passthrough: FamilyLimits,
    /// Bounds on each lane.
    pub queue: QueueLimits,
}

impl LimitsConfig {
    pub(super) fn family(&self, family: Family) -> &FamilyLimits {
        match family {
            Family::Profile => &self.profile,
            Family::Passthrough => &self.passthrough,
        }
    }
}

/// The limits of one family. Calls without a quota are not limited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FamilyLimits {
    /// Whether quotas are learned from 429 responses.
    pub adaptive: bool,
    /// The quota of all calls to a region.
    pub region: Option<Quota>,
    /// The quota of each skill's calls to a region.
    pub skill: Option<Quota>,
    /// Exceptions for single skills.
    pub skills: Arc<BTreeMap<SkillId, SkillLimits>>,
}

/// The limits of one skill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkillLimits {
    /// Its quota; [`FamilyLimits::skill`] if it has none of its own.
    pub quota: Option<Quota>,
    /// Its weight when skills compete for the region's quota: twice the weight,
    /// twice the share. At least 1.
    pub weight: u32,
    /// The number of requests in each window of the region's quota that are
    /// reserved for this skill.
    pub floor: u32,
}

/// Bounds on what one lane keeps in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// The most requests that may wait.
    pub max_queue: usize,
    /// The most skills with a quota of their own at a time. The skills of
    /// [`FamilyLimits::skills`] are admitted beyond this bound.
    pub max_skills: usize,
}

impl FamilyLimits {
    /// The limits in force for a skill.
    pub(super) fn of(&self, skill: Option<&SkillId>) -> SkillLimits {
        match skill.and_then(|skill| self.skills.get(skill)) {
            Some(own) => SkillLimits {
                quota: own.quota.or(self.skill),
                ..*own
            },
            None => SkillLimits {
                quota: self.skill,
                weight: 1,
                floor: 0,
            },
        }
    }

    /// Whether the request names a skill without limits of its own.
    pub(super) fn is_unconfigured(&self, skill: Option<&SkillId>) -> bool {
        skill.is_some_and(|skill| !self.skills.contains_key(skill))
    }

    /// The sum of all floors.
    pub(super) fn total_floor(&self) -> usize {
        self.skills.values().map(|own| own.floor as usize).sum()
    }

    /// Whether any skill has a quota now and had none in `old`, or one with a
    /// shorter window. If so, the history of skills that are not in the table is
    /// unknown.
    pub(super) fn needs_longer_history_than(&self, old: &Self) -> bool {
        let skills = self.skills.keys().chain(old.skills.keys()).map(Some);
        skills
            .chain([None])
            .any(|skill| match (self.of(skill).quota, old.of(skill).quota) {
                (Some(new), Some(old)) => old.per < new.per,
                (new, _) => new.is_some(),
            })
    }
}
