//! The estimate of one skill, on times passed in.

use super::super::level::{CUT, FORGET_AFTER, SAFE_FRACTION, quota_of};
use super::super::pause::MAX_RETRY_AFTER;
use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn throttle(estimator: &mut RateEstimator, sent_at: Instant, now: Instant) {
    throttle_for(estimator, sent_at, None, now);
}

fn throttle_for(
    estimator: &mut RateEstimator,
    sent_at: Instant,
    retry_after: Option<Duration>,
    now: Instant,
) {
    let attempt = ThrottledAttempt {
        sent_at,
        others_in_flight: 0,
        retry_after,
    };
    estimator.throttled(attempt, now);
}

fn accept(estimator: &mut RateEstimator, at: Instant, saturated: bool, max: Option<f64>) -> bool {
    let attempt = SentAttempt {
        sent_at: at,
        saturated,
    };
    estimator.accepted(attempt, max, at)
}

/// An estimator after `accepted` responses within a second and then a 429.
fn throttled_after(accepted: u32, start: Instant) -> (RateEstimator, Instant) {
    let mut estimator = RateEstimator::default();
    let now = start + SECOND;
    for n in 0..accepted {
        let at = start + SECOND * n / accepted + MS;
        accept(&mut estimator, at, false, None);
    }
    throttle(&mut estimator, now, now);
    (estimator, now)
}

/// Accepts requests at the full rate for some seconds. Returns when they end.
fn saturate(estimator: &mut RateEstimator, from: Instant, seconds: u32) -> Instant {
    let end = from + SECOND * seconds;
    let mut now = from;
    while now < end {
        now += Duration::from_secs_f64(1.0 / rate(estimator));
        accept(estimator, now, true, None);
    }
    now
}

fn rate(estimator: &RateEstimator) -> f64 {
    estimator.level.unwrap().rate()
}

#[test]
fn nothing_is_capped_before_the_first_429() {
    let (mut estimator, now) = (RateEstimator::default(), Instant::now());
    for n in 0..10_000 {
        let attempt = SentAttempt {
            sent_at: now,
            saturated: true,
        };
        assert!(!estimator.accepted(attempt, None, now + n * MS));
    }
    assert_eq!(
        (estimator.quota(), estimator.paused_until(now)),
        (None, None)
    );
}

#[test]
fn the_first_429_caps_at_what_was_accepted_before_it() {
    let (mut estimator, now) = throttled_after(20, Instant::now());
    assert!((rate(&estimator) - CUT * SAFE_FRACTION * 20.0).abs() < 1e-9);
    saturate(&mut estimator, now, 4);
    assert!(
        (rate(&estimator) - SAFE_FRACTION * 20.0).abs() < 1e-9,
        "it climbs back"
    );
}

#[test]
fn a_429_to_a_request_sent_before_the_last_cut_changes_nothing() {
    let (mut estimator, now) = throttled_after(20, Instant::now());
    let before = rate(&estimator);
    throttle(&mut estimator, now - 10 * MS, now + 50 * MS);
    assert_eq!(rate(&estimator), before);
    assert_eq!(estimator.estimate(now).unwrap().throttled, 2);
}

#[test]
fn a_failed_probe_returns_and_the_next_one_waits_longer() {
    let (mut estimator, mut now) = throttled_after(20, Instant::now());
    let mut holds = Vec::new();
    for _ in 0..8 {
        let since = now;
        while rate(&estimator) <= estimator.level.unwrap().safe() {
            now = saturate(&mut estimator, now, 1);
        }
        holds.push((now - since).as_secs());
        now += MS;
        throttle(&mut estimator, now, now);
        assert!(rate(&estimator) >= 15.0, "{}", rate(&estimator));
    }
    assert!(holds.is_sorted() && holds[7] >= 95, "{holds:?}");
    assert!(estimator.estimate(now).unwrap().confidence > 0.9);
}

#[test]
fn probes_become_bolder_without_a_429() {
    let (mut estimator, now) = throttled_after(20, Instant::now());
    saturate(&mut estimator, now, 40);
    assert!(rate(&estimator) > 100.0, "{}", rate(&estimator));
}

#[test]
fn a_rate_that_is_not_used_proves_nothing() {
    let (mut estimator, now) = throttled_after(20, Instant::now());
    let before = rate(&estimator);
    for n in 1..1000 {
        let at = now + n * 200 * MS;
        assert!(!accept(&mut estimator, at, false, None));
    }
    assert_eq!(rate(&estimator), before);
}

#[test]
fn the_configured_rate_is_a_ceiling() {
    let (mut estimator, mut now) = throttled_after(20, Instant::now());
    for _ in 0..2000 {
        now += 50 * MS;
        accept(&mut estimator, now, true, Some(22.0));
    }
    assert_eq!(rate(&estimator), 22.0);
    assert_eq!(
        estimator.quota(),
        Some(quota_of(22.0)),
        "it is no probe any more"
    );
}

#[test]
fn a_pause_is_as_long_as_asked_or_twice_the_last() {
    let (mut estimator, now) = throttled_after(20, Instant::now());
    assert_eq!(estimator.paused_until(now), Some(now + 250 * MS));
    let later = now + SECOND;
    throttle(&mut estimator, later, later);
    assert_eq!(estimator.paused_until(later), Some(later + 500 * MS));
    throttle_for(&mut estimator, later, Some(3 * SECOND), later);
    assert_eq!(estimator.paused_until(later), Some(later + 3 * SECOND));
    throttle_for(&mut estimator, later, Some(86_400 * SECOND), later);
    assert_eq!(estimator.paused_until(later), Some(later + MAX_RETRY_AFTER));
}

#[test]
fn an_estimate_expires_an_hour_after_the_last_429() {
    let (mut estimator, now) = throttled_after(20, Instant::now());
    let later = now + FORGET_AFTER + MS;
    assert!(estimator.estimate(now).is_some());
    assert_eq!(estimator.estimate(later), None, "it is not shown any more");
    assert_eq!(estimator.paused_until(later), None);
    assert!(accept(&mut estimator, later, false, None));
    assert!(estimator.level.is_none());
}
