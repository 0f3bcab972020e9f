//! `[limits]`: quotas and queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::check::Check;
use crate::config::file;
use crate::limits::{FamilyLimits, LimitsConfig, QueueLimits, Quota, SkillLimits};
use crate::token::SkillId;

/// A quota takes memory for each of its requests.
const MAX_REQUESTS: u32 = 100_000;

/// The longest window of a quota.
const MAX_WINDOW: Duration = Duration::from_secs(3600);

pub(super) fn limits(check: &mut Check, limits: &file::Limits) -> LimitsConfig {
    LimitsConfig {
        profile: family(check, "limits.profile", &limits.profile),
        passthrough: family(check, "limits.passthrough", &limits.passthrough),
        queue: QueueLimits {
            max_queue: limits.max_queue,
            max_skills: check.at_least("limits.max_skills", limits.max_skills, 1),
        },
    }
}

fn family(check: &mut Check, path: &str, limits: &file::FamilyLimits) -> FamilyLimits {
    FamilyLimits {
        adaptive: limits.adaptive,
        region: quota(check, &format!("{path}.region"), limits.region),
        skill: quota(check, &format!("{path}.skill"), limits.skill),
        skills: Arc::new(skills(check, path, limits)),
    }
}

fn skills(
    check: &mut Check,
    path: &str,
    limits: &file::FamilyLimits,
) -> BTreeMap<SkillId, SkillLimits> {
    let mut skills = BTreeMap::new();
    let mut floors = 0;
    for (id, own) in &limits.skills {
        let path = format!("{path}.skills.{id}");
        floors += u64::from(own.floor);
        if own.floor > 0 {
            floor(check, &format!("{path}.floor"), floors, limits.region);
        }
        let own = SkillLimits {
            quota: quota(check, &format!("{path}.quota"), own.quota),
            weight: check.within(&format!("{path}.weight"), own.weight, 1..=1000),
            floor: own.floor,
        };
        match SkillId::parse(id) {
            Some(skill) => drop(skills.insert(skill, own)),
            None => check.problem(
                &path,
                "must be a complete skill id in quotes, \"amzn1.ask.skill.…\"",
            ),
        }
    }
    skills
}

/// Checks `floors`, the sum of the floors so far, against the region's quota.
fn floor(check: &mut Check, path: &str, floors: u64, region: Option<Quota>) {
    match region {
        Some(region) => check.ensure(
            floors < u64::from(region.requests.get()),
            path,
            "all floors together must be less than the region's quota",
        ),
        None => check.problem(path, "needs a quota of the region, of which it is a part"),
    }
}

fn quota(check: &mut Check, path: &str, quota: Option<Quota>) -> Option<Quota> {
    let quota = quota?;
    check.ensure(
        quota.requests.get() <= MAX_REQUESTS,
        &format!("{path}.requests"),
        "must be at most 100000; use a shorter window",
    );
    let per = format!("{path}.per");
    check.ensure(!quota.per.is_zero(), &per, "must be more than zero");
    check.ensure(quota.per <= MAX_WINDOW, &per, "must be at most 1h");
    check.ensure(
        quota.burst.is_none_or(|burst| burst <= quota.requests),
        &format!("{path}.burst"),
        "must be at most requests",
    );
    Some(quota)
}
