//! A hidden quota is found, used, and found again when it changes: virtual hours
//! against an upstream that responds 429.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::support::{MS, config, skill};
use crate::lab::window::{QuotaWindow, WindowKind};
use crate::limits::{Family, Feedback, Limits, Priority, Quota};
use crate::region::Region;

const SECOND: Duration = Duration::from_secs(1);

/// The requests that upstream counted in one second.
#[derive(Clone, Copy, Debug, Default)]
struct SecondCount {
    taken: u32,
    refused: u32,
}

/// An upstream that enforces a quota per second.
struct ThrottlingUpstream {
    quota: Quota,
    window: QuotaWindow,
    start: Instant,
    seconds: Vec<SecondCount>,
    gave_up_with: Vec<Duration>,
}

impl ThrottlingUpstream {
    fn accepts(&mut self, now: Instant) -> bool {
        let accepted = self.window.admit(self.quota, now).is_ok();
        let second = (now - self.start).as_secs() as usize;
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, SecondCount::default());
        }
        let second = &mut self.seconds[second];
        if accepted {
            second.taken += 1;
        } else {
            second.refused += 1;
        }
        accepted
    }
}

/// Some virtual time in the life of one skill.
struct Morning {
    window: WindowKind,
    /// The capacity of a bucket; `None` for windows.
    burst: Option<NonZeroU32>,
    /// The quota per second, each from a second on.
    limits: &'static [(usize, u32)],
    /// Requests offered per second, at random times (Poisson).
    offered: f64,
    seconds: u32,
    jitter: Duration,
    seed: u64,
}

/// The results.
struct Observed {
    seconds: Vec<SecondCount>,
    /// The time left after the pause, of requests given up after a 429.
    gave_up_with: Vec<Duration>,
}

impl Morning {
    /// ThrottlingUpstream's quota in a second.
    fn quota(&self, second: usize) -> Quota {
        let limit = self.limits.iter().rfind(|(from, _)| *from <= second);
        Quota {
            requests: limit.unwrap().1.try_into().unwrap(),
            per: SECOND,
            burst: self.burst,
        }
    }

    async fn play(&self) -> Observed {
        println!("seed {:#x}", self.seed);
        let mut dice = Rng::with_seed(self.seed);
        let mut settings = config(None, None);
        settings.profile.adaptive = true;
        let ours = Arc::new(Limits::new(&settings));
        let start = Instant::now();
        let upstream = Arc::new(Mutex::new(ThrottlingUpstream {
            quota: self.quota(0),
            window: QuotaWindow::new(self.window, start),
            start,
            seconds: Vec::new(),
            gave_up_with: Vec::new(),
        }));
        let end = start + SECOND * self.seconds;
        let (mut calls, mut at) = (JoinSet::new(), start);
        while at < end {
            sleep_until(at).await;
            let second = (at - start).as_secs() as usize;
            upstream.lock().quota = self.quota(second);
            calls.spawn(call(
                Arc::clone(&ours),
                Arc::clone(&upstream),
                self.jitter,
                dice.fork(),
            ));
            while calls.try_join_next().is_some() {}
            at += Duration::from_secs_f64(-dice.f64().max(1e-9).ln() / self.offered);
        }
        while calls.join_next().await.is_some() {}
        let mut upstream = upstream.lock();
        Observed {
            seconds: std::mem::take(&mut upstream.seconds),
            gave_up_with: std::mem::take(&mut upstream.gave_up_with),
        }
    }
}

/// One request, retried after each 429 while its deadline allows.
async fn call(
    ours: Arc<Limits>,
    upstream: Arc<Mutex<ThrottlingUpstream>>,
    jitter: Duration,
    mut dice: Rng,
) {
    let (deadline, skill) = (Instant::now() + 2500 * MS, skill(1));
    let mut priority = Priority::New;
    loop {
        let (region, family) = (Region::Eu, Family::Profile);
        let asked_at = Instant::now();
        let admitted = ours
            .admit(region, family, Some(&skill), priority, deadline)
            .await;
        let Ok(mut permit) = admitted else {
            if priority == Priority::Retry {
                let paused = ours.learned(region, family)[0].paused_seconds;
                let left = (deadline - asked_at).saturating_sub(Duration::from_secs_f64(paused));
                upstream.lock().gave_up_with.push(left);
            }
            return;
        };
        permit.sent();
        let round_trip = 60 * MS + jitter.mul_f64(dice.f64());
        let there = round_trip.mul_f64(dice.f64());
        sleep(there).await;
        let taken = upstream.lock().accepts(Instant::now());
        sleep(round_trip - there).await;
        if taken {
            return permit.answered(Feedback::Accepted);
        }
        permit.answered(Feedback::Throttled { retry_after: None });
        priority = Priority::Retry;
    }
}

impl Observed {
    /// Requests accepted and refused per second, from one second to another.
    fn rates(&self, from: usize, to: usize) -> (f64, f64) {
        let span = &self.seconds[from..to.min(self.seconds.len())];
        let taken: u32 = span.iter().map(|second| second.taken).sum();
        let refused: u32 = span.iter().map(|second| second.refused).sum();
        let length = (to - from) as f64;
        (f64::from(taken) / length, f64::from(refused) / length)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hidden_quota_is_used_with_few_429s() {
    let mut seed = 0x5eed_0010;
    for (window, burst) in [
        (WindowKind::Sliding, None),
        (WindowKind::Fixed, None),
        (WindowKind::Bucket, NonZeroU32::new(5)),
        (WindowKind::Bucket, NonZeroU32::new(20)),
    ] {
        // A full bucket hides for a while that the rate is too high, and a small one has
        // less room than jitter takes.
        let (least_used, most_refused) = match window {
            WindowKind::Bucket => (0.75, 3.0),
            WindowKind::Sliding | WindowKind::Fixed => (0.85, 1.0),
        };
        let mut all = (0.0, 0.0);
        for offered in [19.0, 30.0, 60.0] {
            seed += 1;
            let morning = Morning {
                window,
                burst,
                limits: &[(0, 20)],
                offered,
                seconds: 1260,
                jitter: 40 * MS,
                seed,
            };
            let played = morning.play().await;
            let (taken, refused) = played.rates(60, 1260);
            all = (all.0 + taken, all.1 + refused);
            let used = taken / 20.0;
            // No request was given up that had time for the pause and for one window,
            // in which earlier requests leave upstream's window.
            let left = played.gave_up_with.iter().max();
            let left = left.copied().unwrap_or_default();
            println!(
                "{window} {burst:?}, {offered}/s offered: {used:.3} used; {} gave up, with {left:?} left",
                played.gave_up_with.len()
            );
            assert!(used >= least_used, "{used}");
            assert!(left < SECOND * 5 / 4, "{left:?}");
        }
        let per_thousand = 1000.0 * all.1 / (all.0 + all.1);
        println!("{window} {burst:?}: {per_thousand:.2} of 1000 refused after the first minute");
        assert!(per_thousand <= most_refused, "{per_thousand}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hidden_quota_that_changes_is_found_again() {
    for (seed, window) in [
        (0x5eed_0020, WindowKind::Sliding),
        (0x5eed_0021, WindowKind::Fixed),
    ] {
        let morning = Morning {
            window,
            burst: None,
            limits: &[(0, 20), (300, 5), (600, 20), (900, 40)],
            offered: 60.0,
            seconds: 1100,
            jitter: 40 * MS,
            seed,
        };
        let played = morning.play().await;
        let dropped = played.rates(310, 600);
        println!("{window}: ten seconds after the drop to 5: {dropped:?}");
        assert!(dropped.0 >= 4.25 && dropped.1 <= 0.05, "{dropped:?}");
        let risen = played.rates(1020, 1100);
        println!("{window}: two minutes after the rise to 40: {risen:?}");
        assert!(risen.0 >= 32.0, "{risen:?}");
    }
}
