//! What a request can observe of the limits, on paused time.

use super::*;
use std::collections::VecDeque;

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

async fn admit(limits: &Limits, skill: &SkillId, within: Duration) -> Result<Permit, Refusal> {
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

/// Makes a call that is answered after `round_trip`; answers when the upstream
/// saw it, at some moment on the way.
async fn call(mut permit: Permit, round_trip: Duration, seed: u64) -> Instant {
    permit.sent();
    let seen = round_trip.mul_f64(fastrand::Rng::with_seed(seed).f64());
    tokio::time::sleep(seen).await;
    let stamp = Instant::now();
    tokio::time::sleep(round_trip - seen).await;
    permit.answered(Answered::Counted);
    stamp
}

fn most_in_any_window(mut stamps: Vec<Instant>, per: Duration) -> usize {
    stamps.sort();
    let mut window = VecDeque::new();
    let mut most = 0;
    for stamp in stamps {
        while window.front().is_some_and(|&first| first + per <= stamp) {
            window.pop_front();
        }
        window.push_back(stamp);
        most = most.max(window.len());
    }
    most
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_kept_in_every_window_and_used() {
    let limits = Arc::new(Limits::new(&config(None, quota(50, 1000 * MS))));
    let start = Instant::now();
    let calls: Vec<_> = (0..500u64)
        .map(|n| {
            let limits = Arc::clone(&limits);
            tokio::spawn(async move {
                let permit = admit(&limits, &skill(1), 60_000 * MS).await.unwrap();
                call(permit, MS * (20 + (n % 80) as u32), n).await
            })
        })
        .collect();
    let mut stamps = Vec::new();
    for call in calls {
        stamps.push(call.await.unwrap());
    }
    let took = start.elapsed();
    assert_eq!(most_in_any_window(stamps, 1000 * MS), 50);
    // Ten windows' worth; the first goes at once, each other costs W + RTT.
    assert!(took < 9 * 1100 * MS + 200 * MS, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_does_not_fit_is_refused_at_once_with_its_length() {
    let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
    let permit = admit(&limits, &skill(1), 100 * MS).await.unwrap();
    call(permit, 100 * MS, 1).await;
    let before = Instant::now();
    let refusal = admit(&limits, &skill(1), 900 * MS).await.unwrap_err();
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(
        refusal,
        Refusal {
            wait: 1000 * MS,
            scope: Scope::Skill
        }
    );
    let permit = admit(&limits, &skill(1), 1200 * MS).await.unwrap();
    assert_eq!(permit.waited(), 1000 * MS);
}

#[tokio::test(start_paused = true)]
async fn skills_do_not_wait_for_each_other() {
    let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
    let _held = admit(&limits, &skill(1), 100 * MS).await.unwrap();
    assert!(admit(&limits, &skill(2), MS).await.is_ok());
    let one = skill(1);
    let other_family = limits.admit(
        Region::Eu,
        Family::Passthrough,
        Some(&one),
        Priority::New,
        Instant::now(),
    );
    assert!(other_family.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_skill_waits_in_order() {
    let limits = Arc::new(Limits::new(&config(None, quota(1, 10 * MS))));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let (limits, order) = (Arc::clone(&limits), Arc::clone(&order));
            tokio::spawn(async move {
                let permit = admit(&limits, &skill(1), 10_000 * MS).await.unwrap();
                order.lock().unwrap().push(n);
                call(permit, MS, n).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(order.lock().unwrap().is_sorted());
}

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
async fn whoever_leaves_gives_up_the_place_and_an_unsent_permit_its_slots() {
    let limits = Arc::new(Limits::new(&config(None, quota(1, 1000 * MS))));
    let held = admit(&limits, &skill(1), 100 * MS).await.unwrap();
    let waiting = tokio::spawn({
        let limits = Arc::clone(&limits);
        async move { admit(&limits, &skill(1), 60_000 * MS).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(limits.snapshot(Region::Eu, Family::Profile).queued, 1);
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(limits.snapshot(Region::Eu, Family::Profile).queued, 0);
    drop(held);
    assert!(admit(&limits, &skill(1), MS).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_permit_that_comes_too_late_for_its_receiver_is_not_lost() {
    let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
    let held = admit(&limits, &skill(1), 100 * MS).await.unwrap();
    {
        let one = skill(1);
        let mut waiting = Box::pin(admit(&limits, &one, 60_000 * MS));
        assert!(poll_once(&mut waiting).await.is_none());
        drop(held);
        // The lane hands the permit over while nobody looks.
        while limits.snapshot(Region::Eu, Family::Profile).queued > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(admit(&limits, &skill(1), MS).await.is_ok());
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_reload_forgets_nothing() {
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
async fn a_quota_that_appears_starts_spent_for_known_and_new_skills() {
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
async fn long_after_a_reload_a_new_skill_has_its_burst() {
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

#[tokio::test(start_paused = true)]
async fn no_time_is_kept_for_a_pause_that_no_deadline_outlasts() {
    let mut config = config(None, quota(1, 2000 * MS));
    config.profile.adaptive = true;
    let limits = Limits::new(&config);
    let mut permit = admit(&limits, &skill(1), MS).await.unwrap();
    permit.sent();
    permit.answered(Answered::Throttled {
        retry_after: Some(30_000 * MS),
    });
    tokio::time::advance(60_000 * MS).await;
    call(admit(&limits, &skill(1), MS).await.unwrap(), MS, 1).await;
    let permit = admit(&limits, &skill(1), 2500 * MS).await.unwrap();
    assert_eq!(permit.waited(), 2000 * MS);
}

#[tokio::test(start_paused = true)]
async fn who_tries_again_too_late_is_told_its_own_wait_not_that_of_the_new() {
    let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
    let held = admit(&limits, &skill(1), MS).await.unwrap();
    let one = skill(1);
    let enter = |entry, within| {
        let deadline = Instant::now() + within;
        let admission = limits.admit(Region::Eu, Family::Profile, Some(&one), entry, deadline);
        Box::pin(admission)
    };
    let mut again = enter(Priority::Retry, 1200 * MS);
    assert!(poll_once(&mut again).await.is_none());
    let mut new: Vec<_> = (0..5).map(|_| enter(Priority::New, 60_000 * MS)).collect();
    for new in &mut new {
        assert!(poll_once(new).await.is_none());
    }
    // Its turn comes 50 ms before its deadline, and an answer takes three times that.
    call(held, 150 * MS, 1).await;
    let refusal = again.await.unwrap_err();
    assert_eq!(refusal.wait, Duration::ZERO, "nobody was before it");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses() {
    let mut config = config(None, quota(1, 1000 * MS));
    config.queue.max_queue = 0;
    let limits = Limits::new(&config);
    let _held = admit(&limits, &skill(1), MS).await.unwrap();
    let refusal = admit(&limits, &skill(1), 60_000 * MS).await.unwrap_err();
    assert_eq!(refusal.scope, Scope::Queue);
}

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
async fn a_full_table_is_looked_through_once_a_second() {
    let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
    let known = || limits.snapshot(Region::Eu, Family::Profile).skills;
    let mut held = Vec::new();
    for n in 0..=100 {
        held.push(admit(&limits, &skill(n), MS).await.unwrap());
    }
    // All are idle from here on, but that is not looked for again so soon.
    drop(held);
    tokio::time::advance(900 * MS).await;
    drop(admit(&limits, &skill(101), MS).await);
    assert_eq!(known(), 101);
    tokio::time::advance(100 * MS).await;
    drop(admit(&limits, &skill(102), MS).await);
    assert_eq!(known(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_of_skills_long_out_of_use_makes_room_for_new_ones() {
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
        permit.answered(Answered::Throttled { retry_after });
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
    // Used again, paused, in use: those that follow went.
    let known = [0, 1, 2, 3, 15, 16, 99].map(|n| learned().contains(&skill(n).to_string()));
    assert_eq!(known, [true, true, true, false, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn invented_skills_cannot_take_a_configured_ones_quota() {
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

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_a_floor_is_not_promised_to_others() {
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
async fn a_floor_is_not_hidden_behind_a_crowd() {
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
    // The owner's slots cool half a window before the others.
    let answer = |permits: Vec<Permit>| {
        for permit in permits {
            permit.answered(Answered::Counted);
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

#[tokio::test(start_paused = true)]
async fn what_was_learned_is_told_for_an_hour() {
    let mut config = config(None, None);
    config.profile.adaptive = true;
    let limits = Limits::new(&config);
    let mut permit = admit(&limits, &skill(1), MS).await.unwrap();
    permit.sent();
    permit.answered(Answered::Throttled { retry_after: None });
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
