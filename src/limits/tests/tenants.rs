//! The table of skills is bounded, on paused time.

use std::sync::Arc;

use super::support::{MS, admit, call, config, quota, skill};
use crate::limits::{Family, Feedback, Limits, SkillLimits};
use crate::region::Region;

#[tokio::test(start_paused = true)]
async fn invented_skills_cannot_fill_the_memory() {
    let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
    let mut held = Vec::new();
    for n in 0..500 {
        held.extend(admit(&limits, &skill(n), MS).await.ok());
    }
    assert!(limits.snapshot(Region::Eu, Family::Profile).skills <= 101);
    assert_eq!(
        held.len(),
        101,
        "one for each skill and one that the others share"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_table_is_swept_at_most_once_a_second() {
    let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
    let known = || limits.snapshot(Region::Eu, Family::Profile).skills;
    let mut held = Vec::new();
    for n in 0..=100 {
        held.push(admit(&limits, &skill(n), MS).await.unwrap());
    }
    // All are idle from here on, but the next sweep is not due yet.
    drop(held);
    tokio::time::advance(900 * MS).await;
    drop(admit(&limits, &skill(101), MS).await);
    assert_eq!(known(), 101);
    tokio::time::advance(100 * MS).await;
    drop(admit(&limits, &skill(102), MS).await);
    assert_eq!(known(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_table_evicts_the_learned_quotas_of_the_skills_idle_longest() {
    let mut config = config(None, None);
    config.profile.adaptive = true;
    let limits = Limits::new(&config);
    let learned = || -> Vec<_> {
        let learned = limits.learned(Region::Eu, Family::Profile).into_iter();
        learned.filter_map(|learned| learned.skill).collect()
    };
    for n in 0..100 {
        let mut permit = admit(&limits, &skill(n), MS).await.unwrap();
        permit.sent();
        let retry_after = (n == 1).then_some(30_000 * MS);
        permit.answered(Feedback::Throttled { retry_after });
        tokio::time::advance(MS).await;
    }
    tokio::time::advance(1000 * MS).await;
    call(admit(&limits, &skill(0), MS).await.unwrap(), MS, 0).await;
    tokio::time::advance(2000 * MS).await;
    let _held = admit(&limits, &skill(2), MS).await.unwrap();
    assert_eq!(learned().len(), 100);

    drop(admit(&limits, &skill(100), MS).await.unwrap());
    let snapshot = limits.snapshot(Region::Eu, Family::Profile);
    assert_eq!((snapshot.skills, snapshot.learned_skills), (88, 87));
    // Skill 0 is used again, 1 is paused, 2 is in use; the 13 after them are evicted.
    let known = [0, 1, 2, 3, 15, 16, 99].map(|n| learned().contains(&skill(n).to_string()));
    assert_eq!(known, [true, true, true, false, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn invented_skills_cannot_take_the_quota_of_a_configured_skill() {
    let mut config = config(None, quota(1, 1000 * MS));
    let own = SkillLimits {
        quota: quota(3, 1000 * MS),
        weight: 1,
        floor: 0,
    };
    config.profile.skills = Arc::new([(skill(999), own)].into());
    let limits = Limits::new(&config);
    let mut held = Vec::new();
    for n in 0..101 {
        held.push(admit(&limits, &skill(n), MS).await.unwrap());
    }
    for _ in 0..3 {
        held.push(admit(&limits, &skill(999), MS).await.unwrap());
    }
}
