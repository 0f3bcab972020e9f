//! Quotas, skills and calls for the tests of this room.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{
    Family, FamilyLimits, Feedback, Limits, LimitsConfig, Permit, Priority, QueueLimits, Quota,
    Refusal,
};
use crate::region::Region;
use crate::token::SkillId;

pub(super) const MS: Duration = Duration::from_millis(1);

pub(super) fn quota(requests: u32, per: Duration) -> Option<Quota> {
    Some(Quota {
        requests: requests.try_into().unwrap(),
        per,
        burst: None,
    })
}

pub(super) fn config(region: Option<Quota>, skill: Option<Quota>) -> LimitsConfig {
    LimitsConfig {
        profile: FamilyLimits {
            region,
            skill,
            ..FamilyLimits::default()
        },
        passthrough: FamilyLimits::default(),
        queue: QueueLimits {
            max_queue: 10_000,
            max_skills: 100,
        },
    }
}

pub(super) fn skill(n: usize) -> SkillId {
    SkillId::parse(&format!("amzn1.ask.skill.{n}")).unwrap()
}

pub(super) async fn admit(
    limits: &Limits,
    skill: &SkillId,
    within: Duration,
) -> Result<Permit, Refusal> {
    let deadline = Instant::now() + within;
    limits
        .admit(
            Region::Eu,
            Family::Profile,
            Some(skill),
            Priority::New,
            deadline,
        )
        .await
}

/// Makes a call that gets its response after `round_trip`. Returns when upstream
/// counted it, at a random time in between.
pub(super) async fn call(mut permit: Permit, round_trip: Duration, seed: u64) -> Instant {
    permit.sent();
    let seen = round_trip.mul_f64(fastrand::Rng::with_seed(seed).f64());
    tokio::time::sleep(seen).await;
    let stamp = Instant::now();
    tokio::time::sleep(round_trip - seen).await;
    permit.answered(Feedback::Accepted);
    stamp
}

pub(super) async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
