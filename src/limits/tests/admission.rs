//! Admission, waiting, refusal and cancellation, on paused time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::support::{MS, admit, call, config, poll_once, quota, skill};
use crate::limits::{Family, Limits, Priority, Refusal, Scope};
use crate::region::Region;

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
async fn a_quota_is_kept_in_every_window_and_fully_used() {
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
    // Ten windows of requests. The first go at once; each other window costs W + RTT.
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
async fn requests_of_one_skill_go_in_order() {
    let limits = Arc::new(Limits::new(&config(None, quota(1, 10 * MS))));
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let (limits, order) = (Arc::clone(&limits), Arc::clone(&order));
            tokio::spawn(async move {
                let permit = admit(&limits, &skill(1), 10_000 * MS).await.unwrap();
                order.lock().push(n);
                call(permit, MS, n).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(order.lock().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn leaving_gives_up_the_place_and_dropping_an_unsent_permit_frees_its_slots() {
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
async fn a_permit_granted_as_its_request_leaves_is_not_lost() {
    let limits = Limits::new(&config(None, quota(1, 1000 * MS)));
    let held = admit(&limits, &skill(1), 100 * MS).await.unwrap();
    {
        let one = skill(1);
        let mut waiting = Box::pin(admit(&limits, &one, 60_000 * MS));
        assert!(poll_once(&mut waiting).await.is_none());
        drop(held);
        // The lane grants the permit while the request is not polled.
        while limits.snapshot(Region::Eu, Family::Profile).queued > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(admit(&limits, &skill(1), MS).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_late_retry_is_told_its_own_wait_not_that_of_new_requests() {
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
    // Its turn comes 50 ms before its deadline, and a response takes 150 ms.
    call(held, 150 * MS, 1).await;
    let refusal = again.await.unwrap_err();
    assert_eq!(refusal.wait, Duration::ZERO, "nothing was ahead of it");
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
