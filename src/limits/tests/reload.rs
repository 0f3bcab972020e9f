//! What a reload keeps, on paused time.

use std::time::Duration;

use tokio::time::Instant;

use super::support::{MS, admit, call, config, quota, skill};
use crate::limits::Limits;

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_history() {
    let limits = Limits::new(&config(None, quota(2, 1000 * MS)));
    for n in 0..2 {
        call(admit(&limits, &skill(1), MS).await.unwrap(), MS, n).await;
    }
    limits.reconfigure(&config(None, quota(3, 1000 * MS)));
    assert!(
        admit(&limits, &skill(1), MS).await.is_ok(),
        "one more than before"
    );
    limits.reconfigure(&config(None, quota(1, 1000 * MS)));
    assert!(admit(&limits, &skill(1), 500 * MS).await.is_err());
    assert!(admit(&limits, &skill(1), 1500 * MS).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_new_quota_starts_exhausted_for_known_and_new_skills() {
    let limits = Limits::new(&config(None, None));
    for n in 0..100 {
        call(admit(&limits, &skill(1), MS).await.unwrap(), MS, n).await;
    }
    limits.reconfigure(&config(None, quota(5, 1000 * MS)));
    for n in [1, 2] {
        let refusal = admit(&limits, &skill(n), 500 * MS).await.unwrap_err();
        assert_eq!(refusal.wait, 1000 * MS);
    }
    tokio::time::advance(1000 * MS).await;
    assert!(admit(&limits, &skill(1), MS).await.is_ok());
    assert!(admit(&limits, &skill(3), MS).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_new_skill_has_its_burst_long_after_a_reload() {
    let limits = Limits::new(&config(None, None));
    let mut paced = quota(6, 60_000 * MS);
    paced.as_mut().unwrap().burst = Some(2.try_into().unwrap());
    limits.reconfigure(&config(None, paced));
    tokio::time::advance(3_600_000 * MS).await;
    let _held = admit(&limits, &skill(1), MS).await.unwrap();
    let _other = admit(&limits, &skill(1), MS).await.unwrap();
    let before = Instant::now();
    let refusal = admit(&limits, &skill(1), 500 * MS).await.unwrap_err();
    assert_eq!(
        (refusal.wait, before.elapsed()),
        (10_000 * MS, Duration::ZERO)
    );
}
