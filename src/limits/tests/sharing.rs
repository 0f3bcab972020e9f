//! How skills share the region's quota, on paused time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::support::{MS, admit, call, config, quota, skill};
use crate::limits::{Family, Feedback, Limits, Permit, SkillLimits};
use crate::region::Region;

#[tokio::test(start_paused = true)]
async fn a_noisy_skill_cannot_hold_up_another_at_the_region() {
    let limits = Arc::new(Limits::new(&config(quota(1, 100 * MS), None)));
    let noisy: Vec<_> = (0..50)
        .map(|n| {
            let limits = Arc::clone(&limits);
            tokio::spawn(async move {
                let permit = admit(&limits, &skill(1), 60_000 * MS).await.unwrap();
                call(permit, MS, n).await
            })
        })
        .collect();
    tokio::task::yield_now().await;
    let permit = admit(&limits, &skill(2), 500 * MS).await.unwrap();
    assert!(permit.waited() <= 210 * MS, "{:?}", permit.waited());
    drop(permit);
    for task in noisy {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn slots_reserved_for_a_floor_are_not_promised_to_others() {
    let mut config = config(quota(10, 1000 * MS), None);
    let own = SkillLimits {
        quota: None,
        weight: 1,
        floor: 9,
    };
    config.profile.skills = Arc::new([(skill(1), own)].into());
    let limits = Limits::new(&config);
    call(admit(&limits, &skill(2), MS).await.unwrap(), MS, 1).await;
    let before = Instant::now();
    let refusal = admit(&limits, &skill(2), 500 * MS).await.unwrap_err();
    assert_eq!(
        (refusal.wait, before.elapsed()),
        (1000 * MS, Duration::ZERO)
    );
    let permit = admit(&limits, &skill(2), 1500 * MS).await.unwrap();
    assert_eq!(permit.waited(), 1000 * MS);
    assert!(admit(&limits, &skill(1), MS).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_floor_is_served_before_a_crowd() {
    let mut config = config(quota(10, 1000 * MS), None);
    let own = SkillLimits {
        quota: None,
        weight: 1,
        floor: 5,
    };
    config.profile.skills = Arc::new([(skill(0), own)].into());
    let limits = Arc::new(Limits::new(&config));
    let mut permits = Vec::new();
    for n in [1, 0] {
        for _ in 0..5 {
            let mut permit = admit(&limits, &skill(n), MS).await.unwrap();
            permit.sent();
            permits.push(permit);
        }
    }
    // The owner's slots cool down half a window before the others.
    let answer = |permits: Vec<Permit>| {
        for permit in permits {
            permit.answered(Feedback::Accepted);
        }
    };
    answer(permits.split_off(5));
    tokio::time::advance(500 * MS).await;
    answer(permits);
    let crowd: Vec<_> = (0..70)
        .map(|n| {
            let limits = Arc::clone(&limits);
            tokio::spawn(async move { admit(&limits, &skill(2 + n), 60_000 * MS).await.map(drop) })
        })
        .collect();
    while limits.snapshot(Region::Eu, Family::Profile).queued < 70 {
        tokio::task::yield_now().await;
    }
    let permit = admit(&limits, &skill(0), 60_000 * MS).await.unwrap();
    assert_eq!(permit.waited(), 500 * MS);
    for skill in crowd {
        assert!(skill.await.unwrap().is_ok());
    }
}
