//! What a caller observes of a learned quota, on paused time.

use std::time::Duration;

use super::support::{MS, admit, call, config, quota, skill};
use crate::limits::{Family, Feedback, Limits};
use crate::region::Region;

#[tokio::test(start_paused = true)]
async fn no_time_is_reserved_for_a_pause_that_does_not_fit_the_deadline() {
    let mut config = config(None, quota(1, 2000 * MS));
    config.profile.adaptive = true;
    let limits = Limits::new(&config);
    let mut permit = admit(&limits, &skill(1), MS).await.unwrap();
    permit.sent();
    permit.answered(Feedback::Throttled {
        retry_after: Some(30_000 * MS),
    });
    tokio::time::advance(60_000 * MS).await;
    call(admit(&limits, &skill(1), MS).await.unwrap(), MS, 1).await;
    let permit = admit(&limits, &skill(1), 2500 * MS).await.unwrap();
    assert_eq!(permit.waited(), 2000 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_learned_quota_is_shown_for_an_hour() {
    let mut config = config(None, None);
    config.profile.adaptive = true;
    let limits = Limits::new(&config);
    let mut permit = admit(&limits, &skill(1), MS).await.unwrap();
    permit.sent();
    permit.answered(Feedback::Throttled { retry_after: None });
    let told = || {
        let lane = limits.snapshot(Region::Eu, Family::Profile);
        let listed = limits.learned(Region::Eu, Family::Profile).len();
        (lane.skills, lane.learned_skills, listed)
    };
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(told(), (1, 1, 1));
    tokio::time::advance(MS).await;
    assert_eq!(told(), (1, 0, 0));
}
