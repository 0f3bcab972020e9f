//! Quotas are kept whatever the network does: a million requests on paused time
//! against an upstream that counts.
//!
//! CountingUpstream counts each request at a random time between its sending and its response.
//! Some get no response, and some are reset. CountingUpstream refuses requests above the quota
//! in a sliding window, and in a fixed one with a random origin.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::support::{MS, config, quota, skill};
use crate::lab::window::{QuotaWindow, WindowKind};
use crate::limits::{Family, Feedback, Limits, Permit, Priority, Quota};
use crate::region::Region;

/// Requests counted, and those that upstream would have refused.
#[derive(Debug, Default, PartialEq, Eq)]
struct RequestCount {
    taken: usize,
    refused_sliding: usize,
    refused_fixed: usize,
}

/// An upstream that checks each request against both kinds of window.
struct CountingUpstream {
    quota: Quota,
    sliding: QuotaWindow,
    fixed: QuotaWindow,
    count: RequestCount,
}

impl CountingUpstream {
    /// Creates an upstream whose fixed windows begin at `origin`.
    fn new(quota: Quota, origin: Instant) -> Self {
        Self {
            quota,
            sliding: QuotaWindow::new(WindowKind::Sliding, origin),
            fixed: QuotaWindow::new(WindowKind::Fixed, origin),
            count: RequestCount::default(),
        }
    }

    fn stamp(&mut self, now: Instant) {
        let refuses = |window: &mut QuotaWindow| window.admit(self.quota, now).is_err();
        self.count.taken += 1;
        self.count.refused_sliding += usize::from(refuses(&mut self.sliding));
        self.count.refused_fixed += usize::from(refuses(&mut self.fixed));
    }
}

/// The network: the least round trip, the most that jitter adds, and the fraction of
/// requests without a response, by time-out or reset.
#[derive(Clone, Copy)]
struct Network {
    round_trip: Duration,
    jitter: Duration,
    lost: f64,
}

/// Sends one request with its permit.
async fn call(
    mut permit: Permit,
    network: Network,
    upstream: &Mutex<CountingUpstream>,
    mut dice: Rng,
) {
    let round_trip = network.round_trip + network.jitter.mul_f64(dice.f64());
    let there = round_trip.mul_f64(dice.f64());
    let fate = dice.f64();
    permit.sent();
    sleep(there).await;
    upstream.lock().stamp(Instant::now());
    if fate < network.lost / 2.0 {
        // No response: dead at the time-out.
        sleep(1500 * MS - there).await;
    } else if fate < network.lost {
        // Reset at a random time.
        sleep((round_trip - there).mul_f64(dice.f64())).await;
    } else {
        sleep(round_trip - there).await;
        permit.answered(Feedback::Accepted);
    }
}

/// Offers 1.2 times the quota. Returns the fraction of the quota that is used.
///
/// `reloads` changes the quota three times: to half of it, to half of it in half the
/// window, and back to the whole, which needs a longer window again.
async fn offer(
    quota: Quota,
    requests: u32,
    network: Network,
    reloads: bool,
    dice: &mut Rng,
) -> f64 {
    let limits = Arc::new(Limits::new(&config(None, Some(quota))));
    let start = Instant::now();
    let origin = start.checked_sub(quota.per.mul_f64(dice.f64())).unwrap();
    let upstream = Arc::new(Mutex::new(CountingUpstream::new(quota, origin)));
    let interval = quota
        .per
        .mul_f64(1.0 / (1.2 * f64::from(quota.requests.get())));
    let half = quota.requests.get().div_ceil(2);
    let mut plan = vec![
        (requests * 3 / 4, quota),
        (
            requests / 2,
            super::support::quota(half, quota.per / 2).unwrap(),
        ),
        (
            requests / 4,
            super::support::quota(half, quota.per).unwrap(),
        ),
    ];
    plan.truncate(if reloads { 3 } else { 0 });
    if half * 2 > quota.requests.get() {
        // Two halves of an odd quota are more than the whole.
        plan.retain(|(_, other)| other.per == quota.per);
    }
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..requests {
        sleep_until(start + interval * n).await;
        if plan.last().is_some_and(|(at, _)| *at == n) {
            let (_, quota) = plan.pop().unwrap();
            limits.reconfigure(&config(None, Some(quota)));
        }
        let (limits, upstream) = (Arc::clone(&limits), Arc::clone(&upstream));
        let dice = dice.fork();
        calls.spawn(async move {
            let deadline = Instant::now() + 4 * quota.per + 2500 * MS;
            let skill = skill(1);
            let admitted = limits.admit(
                Region::Eu,
                Family::Profile,
                Some(&skill),
                Priority::New,
                deadline,
            );
            if let Ok(permit) = admitted.await {
                call(permit, network, &upstream, dice).await;
            }
        });
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    let took = start.elapsed();
    let upstream = upstream.lock();
    let RequestCount {
        taken,
        refused_sliding,
        refused_fixed,
    } = upstream.count;
    assert_eq!(
        (refused_sliding, refused_fixed),
        (0, 0),
        "{quota} of {taken}"
    );
    taken as f64 / (f64::from(quota.requests.get()) * took.as_secs_f64() / quota.per.as_secs_f64())
}

/// Quotas per second, and the requests offered to each: a million in all.
const OFFERED: [(u32, u32); 8] = [
    (1, 2_000),
    (3, 3_000),
    (20, 25_000),
    (50, 50_000),
    (200, 100_000),
    (500, 150_000),
    (1_000, 220_000),
    (5_000, 450_000),
];

#[tokio::test(start_paused = true)]
async fn a_million_requests_never_exceed_their_quota() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut dice = Rng::with_seed(seed);
    assert_eq!(OFFERED.iter().map(|(_, n)| n).sum::<u32>(), 1_000_000);
    let network = Network {
        round_trip: 60 * MS,
        jitter: 200 * MS,
        lost: 0.02,
    };
    for (requests, offered) in OFFERED {
        let quota = quota(requests, 1000 * MS).unwrap();
        let used = offer(quota, offered, network, true, &mut dice).await;
        println!(
            "{quota}: {offered} offered, {:.1} % of the quota used",
            100.0 * used
        );
    }
}

#[tokio::test(start_paused = true)]
async fn at_least_92_per_cent_of_a_quota_is_used_at_a_round_trip_of_60_ms() {
    let seed = 0x5eed_0002;
    println!("seed {seed:#x}");
    let mut dice = Rng::with_seed(seed);
    let network = Network {
        round_trip: 60 * MS,
        jitter: Duration::ZERO,
        lost: 0.0,
    };
    for (requests, offered) in [(1, 500), (20, 5_000), (500, 30_000), (5_000, 100_000)] {
        let quota = quota(requests, 1000 * MS).unwrap();
        let used = offer(quota, offered, network, false, &mut dice).await;
        println!("{quota}: {:.1} % used", 100.0 * used);
        assert!(used >= 0.92, "{quota}: {used}");
    }
}
