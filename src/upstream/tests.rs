//! The attempt loop on paused time, with a model in the network's place.

use std::collections::VecDeque;
use std::sync::Mutex;

use http::StatusCode;

use super::breaker::Phase;
use super::*;
use crate::config::Config;
use crate::config::layers::Sources;

const MS: Duration = Duration::from_millis(1);

/// A way to an Alexa that is modelled.
struct Way {
    upstream: Upstream,
    config: Config,
}

impl Way {
    /// Each call takes 100 ms, and then gets what `answer` says; one that times out
    /// gets nothing.
    fn new(
        config: &str,
        answer: impl Fn(Region) -> Result<BufferedResponse, Kind> + Send + Sync + 'static,
    ) -> Self {
        let sources = Sources {
            file: Some(("test.toml", config)),
            environment: &[],
        };
        let config = Config::load(&sources).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let limits = Arc::new(Limits::new(&config.gateway.limits));
        let model = move |request: Request<Body>| -> client::Modelled {
            let host = request.uri().host().unwrap_or_default();
            let region = Region::ALL.into_iter().find(|region| region.host() == host);
            let answer = answer(region.unwrap());
            Box::pin(async move {
                sleep(100 * MS).await;
                match answer {
                    Err(Kind::AnswerTimeout) => std::future::pending().await,
                    answer => answer,
                }
            })
        };
        let client = Client::modelled(Arc::new(model));
        Self {
            upstream: Upstream::new(
                client,
                limits,
                Arc::new(Metrics::new()),
                &config.gateway.upstream,
            ),
            config,
        }
    }

    async fn fetch(&self, region: Region, within: Duration) -> (Result<u16, Kind>, CallStats) {
        let (call, never) = (call_to(region), std::future::pending());
        let deadline = Instant::now() + within;
        let fetching = self
            .upstream
            .fetch(&call, &self.config.gateway.upstream, deadline, never);
        let (outcome, stats) = fetching.await;
        let outcome = outcome.map(|whole| whole.status().as_u16());
        (outcome.map_err(|error| error.kind()), stats)
    }
}

fn call_to(region: Region) -> Call {
    Call {
        region,
        uri: format!("https://{}/v2", region.host()).parse().unwrap(),
        skill: None,
        method: Method::GET,
        headers: HeaderMap::new(),
        token: None,
    }
}

fn answer(status: u16, retry_after: Option<&str>) -> Result<BufferedResponse, Kind> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(value) = retry_after {
        let value = value.parse().unwrap();
        response.headers_mut().insert("retry-after", value);
    }
    Ok(response)
}

struct Played {
    outcome: Result<u16, Kind>,
    stats: CallStats,
    took: Duration,
    unused: usize,
}

/// Plays a script of outcomes to one call.
async fn play(
    config: &str,
    script: Vec<Result<BufferedResponse, Kind>>,
    within: Duration,
) -> Played {
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let rest = Arc::clone(&script);
    let way = Way::new(config, move |_| script.lock().unwrap().pop_front().unwrap());
    let started = Instant::now();
    let (outcome, stats) = way.fetch(Region::Eu, within).await;
    Played {
        outcome,
        stats,
        took: started.elapsed(),
        unused: rest.lock().unwrap().len(),
    }
}

/// One call a second.
const QUOTA: &str = "[limits.profile]\nskill = { requests = 1, per = '1s' }\n";

#[tokio::test(start_paused = true)]
async fn an_answer_after_failures_is_the_answer() {
    let script = vec![Err(Kind::AnswerLost), answer(500, None), answer(200, None)];
    let played = play("", script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    assert_eq!(played.stats.attempts, 3);
    assert_eq!(played.stats.upstream_time, 300 * MS);
}

#[tokio::test(start_paused = true)]
async fn when_attempts_run_out_the_last_outcome_stands() {
    let script = [500, 502, 504, 200].map(|status| answer(status, None));
    let played = play("", script.into(), 2500 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(504), 1));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for_if_it_fits_and_relayed_at_once_if_not() {
    let script = vec![answer(429, Some("1")), answer(200, None)];
    let played = play("", script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    assert!(played.took >= 1200 * MS, "{:?}", played.took);
    let script = vec![answer(429, Some("3")), answer(200, None)];
    let played = play("", script, 2500 * MS).await;
    assert_eq!(
        (played.outcome, played.took, played.unused),
        (Ok(429), 100 * MS, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_429_counts_as_soon_as_a_reload_ends_learning() {
    let way = Way::new("", |_| answer(429, None));
    let mut reloaded = way.config.gateway.limits.clone();
    reloaded.profile.adaptive = false;
    way.upstream.limits.reconfigure(&reloaded);
    let (outcome, stats) = way.fetch(Region::Eu, 2500 * MS).await;
    assert_eq!((outcome, stats.attempts), (Ok(429), 3));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_pays_and_a_refused_retry_leaves_the_last_answer() {
    let script = vec![answer(500, None), answer(200, None)];
    let played = play(QUOTA, script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    assert!(played.stats.queue_wait > 900 * MS, "{:?}", played.stats);
    let script = vec![answer(500, None), answer(200, None)];
    let played = play(QUOTA, script, 1000 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(500), 1));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_gives_up_before_it_is_sent() {
    let way = Way::new(QUOTA, |_| unreachable!("nothing is sent"));
    let limits = Arc::clone(&way.upstream.limits);
    let deadline = Instant::now() + 10_000 * MS;
    let held = limits.admit(Region::Eu, Family::Profile, None, Priority::New, deadline);
    let _held = held.await.unwrap();
    let (call, left) = (call_to(Region::Eu), sleep(10 * MS));
    let fetching = way
        .upstream
        .fetch(&call, &way.config.gateway.upstream, deadline, left);
    let (outcome, stats) = fetching.await;
    assert_eq!(outcome.unwrap_err().kind(), Kind::Abandoned);
    assert_eq!(stats.attempts, 0);
    assert_eq!(limits.snapshot(Region::Eu, Family::Profile).queued, 0);
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_is_not_upstreams_time_out() {
    let config = "[upstream]\nanswer_timeout = '50ms'\n[retry]\nmax_attempts = 1\n";
    let played = play(config, vec![answer(200, None)], 2500 * MS).await;
    assert_eq!(played.outcome, Err(Kind::AnswerTimeout));
    let played = play("", vec![answer(200, None)], 60 * MS).await;
    assert_eq!(played.outcome, Err(Kind::Deadline));
}

/// One call of many.
struct Ended {
    /// When it began, after the first.
    offset: Duration,
    took: Duration,
    outcome: Result<u16, Kind>,
    attempts: u32,
}

/// Makes so many calls, one every 10 ms, and tells how they ended.
async fn offer(way: &Arc<Way>, region: Region, calls: u32) -> Vec<Ended> {
    let start = Instant::now();
    let offered: Vec<_> = (0..calls)
        .map(|n| {
            let (way, offset) = (Arc::clone(way), 10 * MS * n);
            tokio::spawn(async move {
                sleep_until(start + offset).await;
                let (outcome, stats) = way.fetch(region, 2500 * MS).await;
                Ended {
                    offset,
                    took: start.elapsed() - offset,
                    outcome,
                    attempts: stats.attempts,
                }
            })
        })
        .collect();
    let mut ended = Vec::new();
    for call in offered {
        ended.push(call.await.unwrap());
    }
    ended
}

fn attempts_of(ended: &[Ended]) -> u32 {
    ended.iter().map(|call| call.attempts).sum()
}

/// Throws the dice of back-off and breaker, and tells how to throw them again.
fn throw_dice() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::seed(seed);
}

#[tokio::test(start_paused = true)]
async fn retries_of_all_calls_together_stay_in_the_budget() {
    let way = Way::new("[breaker]\nenabled = false\n", |_| answer(500, None));
    let way = Arc::new(way);
    throw_dice();
    let ended = offer(&way, Region::Eu, 1000).await;
    assert!(ended.iter().all(|call| call.outcome == Ok(500)));
    let retries = attempts_of(&ended) - 1000;
    // A tenth of them, and the floor of one a second, which may come all at once.
    assert!((100..=120).contains(&retries), "{retries} retries");
    let denied = "alexa_gateway_retries_denied_total{region=\"eu\"} ";
    let text = way.upstream.metrics.to_text();
    let denied = text.lines().find_map(|line| line.strip_prefix(denied));
    assert!(denied.unwrap().parse::<u32>().unwrap() > 800, "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_is_not_paid_for_by_the_budget() {
    let config = "[retry]\nbudget_percent = 0\nbudget_min_per_second = 0\n";
    let script = vec![answer(429, Some("1")), answer(200, None)];
    let played = play(config, script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    let script = vec![answer(500, None), answer(200, None)];
    let played = play(config, script, 2500 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(500), 1));
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_down_is_left_alone_and_the_others_are_as_ever() {
    for outage in [
        Err(Kind::Connect),
        Err(Kind::AnswerLost),
        Err(Kind::AnswerTimeout),
        answer(503, None),
    ] {
        throw_dice();
        let failing = outage.clone();
        let way = Way::new("", move |region| match region {
            Region::Eu => failing.clone(),
            _ => answer(200, None),
        });
        let way = Arc::new(way);
        let (down, up) = tokio::join!(offer(&way, Region::Eu, 1000), offer(&way, Region::Na, 1000));
        let attempts = attempts_of(&down);
        let what = outage.map(|whole| whole.status());
        println!("{what:?}: {attempts} attempts for 1000 calls");
        assert!(attempts <= 1100, "{attempts}");
        let held = |call: &&Ended| call.outcome == Err(Kind::BreakerOpen);
        assert!(down.iter().filter(held).count() > 800, "{what:?}");
        assert!(down.iter().filter(held).all(|call| call.took.is_zero()));
        assert_eq!(attempts_of(&up), 1000);
        for call in up {
            assert_eq!((call.outcome, call.took), (Ok(200), 100 * MS));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_back_has_its_full_rate_within_five_seconds() {
    throw_dice();
    // A silent upstream takes longest: each probe waits for its time-out.
    for (kind, most) in [(Kind::AnswerTimeout, 3700 * MS), (Kind::Connect, 2200 * MS)] {
        let mut slowest = Duration::ZERO;
        // It comes back at any moment between two probes.
        for outage in (0..20).map(|n| 20_000 * MS + 190 * MS * n) {
            let start = Instant::now();
            let way = Way::new("", move |_| match start.elapsed() < outage {
                true => Err(kind),
                false => answer(200, None),
            });
            let ended = offer(&Arc::new(way), Region::Eu, 3500).await;
            let failed = |call: &&Ended| call.outcome != Ok(200);
            let last = ended.iter().rfind(failed).unwrap().offset;
            let after = ended.iter().filter(|call| call.offset > last);
            assert!(after.count() > 500, "it is back");
            slowest = slowest.max(last.saturating_sub(outage));
        }
        println!("{kind:?}: full rate after {slowest:?} at most");
        // max_open, and the time that a probe takes to fail and another to succeed.
        assert!(slowest <= most, "{slowest:?}");
    }
}

/// One failure opens, and it is long until a probe.
const TOUCHY: &str = "[breaker]\nconsecutive_failures = 1\nopen = '1m'\nmax_open = '1m'\n";

#[tokio::test(start_paused = true)]
async fn a_retry_that_meets_an_open_breaker_leaves_the_last_outcome() {
    let script = vec![answer(500, None), answer(200, None)];
    let played = play(TOUCHY, script, 2500 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(500), 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_queues_as_the_breaker_opens_is_told_and_sends_nothing() {
    let config = format!("{QUOTA}{TOUCHY}[retry]\nmax_attempts = 1\n");
    let way = Arc::new(Way::new(&config, |_| answer(500, None)));
    let calls = (0..5).map(|_| {
        let way = Arc::clone(&way);
        tokio::spawn(async move { way.fetch(Region::Eu, 10_000 * MS).await.0 })
    });
    let calls: Vec<_> = calls.collect();
    let start = Instant::now();
    let mut ended = Vec::new();
    for call in calls {
        ended.push(call.await.unwrap());
    }
    assert_eq!(ended[0], Ok(500));
    assert_eq!(ended[1..], [Err(Kind::BreakerOpen); 4]);
    // The first permit that comes back goes from hand to hand.
    assert_eq!(start.elapsed(), 1100 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_leaves_makes_room_for_the_next() {
    let config = "[breaker]\nconsecutive_failures = 1\n[retry]\nmax_attempts = 1\n";
    let script = Mutex::new(VecDeque::from([
        Err(Kind::Connect),
        Err(Kind::AnswerTimeout),
        answer(200, None),
    ]));
    let way = Way::new(config, move |_| script.lock().unwrap().pop_front().unwrap());
    way.fetch(Region::Eu, 2500 * MS).await.0.unwrap_err();
    sleep(500 * MS).await;
    {
        let mut probe = Box::pin(way.fetch(Region::Eu, 2500 * MS));
        let begun = tokio::time::timeout(50 * MS, &mut probe).await;
        assert!(begun.is_err(), "it is on its way");
        let other = way.fetch(Region::Eu, 2500 * MS).await.0;
        assert_eq!(other, Err(Kind::BreakerOpen), "one at a time");
    }
    assert_eq!(way.fetch(Region::Eu, 2500 * MS).await.0, Ok(200));
    assert_eq!(way.upstream.breaker(Region::Eu).state, Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn refusals_and_throttling_never_open_the_breaker() {
    for status in [403, 429] {
        let way = Arc::new(Way::new("", move |_| answer(status, Some("60"))));
        let ended = offer(&way, Region::Eu, 1000).await;
        assert!(attempts_of(&ended) > 0, "{status}");
        let held = |call: &Ended| call.outcome == Err(Kind::BreakerOpen);
        assert!(!ended.iter().any(held), "{status}");
        assert_eq!(way.upstream.breaker(Region::Eu).state, Phase::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_in_a_hurry_do_not_open_the_breaker() {
    let way = Way::new("", |_| answer(200, None));
    for _ in 0..100 {
        let hurried = way.fetch(Region::Eu, 60 * MS).await;
        assert_eq!(hurried.0, Err(Kind::Deadline));
    }
    assert_eq!(way.fetch(Region::Eu, 2500 * MS).await.0, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn what_passes_through_does_not_meet_the_breaker() {
    let way = Way::new(TOUCHY, |_| answer(500, None));
    way.fetch(Region::Eu, 2500 * MS).await.0.unwrap();
    let state = || way.upstream.breaker(Region::Eu).state;
    assert_eq!(state(), Phase::Open);
    let due = Instant::now() + 1000 * MS;
    let (call, mut stats) = (call_to(Region::Eu), CallStats::default());
    let relayed = way.upstream.relay(
        &call,
        &way.config.gateway.upstream,
        body::none(),
        (due, None),
        &mut stats,
    );
    assert_eq!(relayed.await.unwrap().status(), 500);
    assert_eq!(state(), Phase::Open, "and tells it nothing");
}
