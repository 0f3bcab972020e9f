//! The attempt loop on paused time, with a model in place of the network.

use std::collections::VecDeque;

use http::{HeaderMap, Method, Request, StatusCode};
use parking_lot::Mutex;

use super::breaker::Phase;
use super::*;
use crate::config::Config;
use crate::config::layers::Sources;

const MS: Duration = Duration::from_millis(1);

/// Calls to a modelled Alexa.
struct Modelled {
    upstream: Upstream,
    config: Config,
}

impl Modelled {
    /// Each attempt gets `respond`'s result after 100 ms, or no response if that is a
    /// time-out.
    fn new(
        config: &str,
        respond: impl Fn(Region) -> Result<BufferedResponse, Kind> + Send + Sync + 'static,
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
            let result = respond(region.unwrap());
            Box::pin(async move {
                sleep(100 * MS).await;
                match result {
                    Err(Kind::AnswerTimeout) => std::future::pending().await,
                    result => result,
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
        let outcome = outcome.map(|response| response.status().as_u16());
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

fn response(status: u16, retry_after: Option<&str>) -> Result<BufferedResponse, Kind> {
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

/// Makes one call whose attempts get the results of a script.
async fn play(
    config: &str,
    script: Vec<Result<BufferedResponse, Kind>>,
    within: Duration,
) -> Played {
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let rest = Arc::clone(&script);
    let alexa = Modelled::new(config, move |_| script.lock().pop_front().unwrap());
    let started = Instant::now();
    let (outcome, stats) = alexa.fetch(Region::Eu, within).await;
    Played {
        outcome,
        stats,
        took: started.elapsed(),
        unused: rest.lock().len(),
    }
}

/// One call a second.
const QUOTA: &str = "[limits.profile]\nskill = { requests = 1, per = '1s' }\n";

#[tokio::test(start_paused = true)]
async fn a_success_after_failures_is_the_result() {
    let script = vec![
        Err(Kind::AnswerLost),
        response(500, None),
        response(200, None),
    ];
    let played = play("", script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    assert_eq!(played.stats.attempts, 3);
    assert_eq!(played.stats.upstream_time, 300 * MS);
}

#[tokio::test(start_paused = true)]
async fn when_attempts_run_out_the_last_outcome_stands() {
    let script = [500, 502, 504, 200].map(|status| response(status, None));
    let played = play("", script.into(), 2500 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(504), 1));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_if_it_fits_and_else_the_429_stands() {
    let script = vec![response(429, Some("1")), response(200, None)];
    let played = play("", script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    assert!(played.took >= 1200 * MS, "{:?}", played.took);
    let script = vec![response(429, Some("3")), response(200, None)];
    let played = play("", script, 2500 * MS).await;
    assert_eq!(
        (played.outcome, played.took, played.unused),
        (Ok(429), 100 * MS, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_429_counts_as_an_attempt_once_a_reload_ends_learning() {
    let alexa = Modelled::new("", |_| response(429, None));
    let mut reloaded = alexa.config.gateway.limits.clone();
    reloaded.profile.adaptive = false;
    alexa.upstream.limits.reconfigure(&reloaded);
    let (outcome, stats) = alexa.fetch(Region::Eu, 2500 * MS).await;
    assert_eq!((outcome, stats.attempts), (Ok(429), 3));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_takes_a_permit_and_a_refused_retry_leaves_the_last_outcome() {
    let script = vec![response(500, None), response(200, None)];
    let played = play(QUOTA, script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    assert!(played.stats.queue_wait > 900 * MS, "{:?}", played.stats);
    let script = vec![response(500, None), response(200, None)];
    let played = play(QUOTA, script, 1000 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(500), 1));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_ends_before_it_is_sent() {
    let alexa = Modelled::new(QUOTA, |_| unreachable!("nothing is sent"));
    let limits = Arc::clone(&alexa.upstream.limits);
    let deadline = Instant::now() + 10_000 * MS;
    let held = limits.admit(Region::Eu, Family::Profile, None, Priority::New, deadline);
    let _held = held.await.unwrap();
    let (call, left) = (call_to(Region::Eu), sleep(10 * MS));
    let fetching = alexa
        .upstream
        .fetch(&call, &alexa.config.gateway.upstream, deadline, left);
    let (outcome, stats) = fetching.await;
    assert_eq!(outcome.unwrap_err().kind(), Kind::Abandoned);
    assert_eq!(stats.attempts, 0);
    assert_eq!(limits.snapshot(Region::Eu, Family::Profile).queued, 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_caller_is_no_time_out_of_upstream() {
    let config = "[upstream]\nanswer_timeout = '50ms'\n[retry]\nmax_attempts = 1\n";
    let played = play(config, vec![response(200, None)], 2500 * MS).await;
    assert_eq!(played.outcome, Err(Kind::AnswerTimeout));
    let played = play("", vec![response(200, None)], 60 * MS).await;
    assert_eq!(played.outcome, Err(Kind::Deadline));
}

/// One call of many.
struct Ended {
    /// When it started, after the first.
    offset: Duration,
    took: Duration,
    outcome: Result<u16, Kind>,
    attempts: u32,
}

/// Makes one call every 10 ms, and returns how each ended.
async fn offer(alexa: &Arc<Modelled>, region: Region, calls: u32) -> Vec<Ended> {
    let start = Instant::now();
    let offered: Vec<_> = (0..calls)
        .map(|n| {
            let (alexa, offset) = (Arc::clone(alexa), 10 * MS * n);
            tokio::spawn(async move {
                sleep_until(start + offset).await;
                let (outcome, stats) = alexa.fetch(region, 2500 * MS).await;
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

/// Seeds the random draws of back-off and breaker, and prints the seed.
fn seed_randomness() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::seed(seed);
}

#[tokio::test(start_paused = true)]
async fn retries_of_all_calls_together_stay_within_the_budget() {
    let alexa = Modelled::new("[breaker]\nenabled = false\n", |_| response(500, None));
    let alexa = Arc::new(alexa);
    seed_randomness();
    let ended = offer(&alexa, Region::Eu, 1000).await;
    assert!(ended.iter().all(|call| call.outcome == Ok(500)));
    let retries = attempts_of(&ended) - 1000;
    // A tenth of the calls, plus the floor of one a second, all at once at most.
    assert!((100..=120).contains(&retries), "{retries} retries");
    let denied = "alexa_gateway_retries_denied_total{region=\"eu\"} ";
    let text = alexa.upstream.metrics.to_text();
    let denied = text.lines().find_map(|line| line.strip_prefix(denied));
    assert!(denied.unwrap().parse::<u32>().unwrap() > 800, "{text}");
}

#[tokio::test(start_paused = true)]
async fn retries_of_throttled_calls_do_not_use_the_budget() {
    let config = "[retry]\nbudget_percent = 0\nbudget_min_per_second = 0\n";
    let script = vec![response(429, Some("1")), response(200, None)];
    let played = play(config, script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    let script = vec![response(500, None), response(200, None)];
    let played = play(config, script, 2500 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(500), 1));
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_down_gets_few_calls_and_the_others_are_unaffected() {
    for outage in [
        Err(Kind::Connect),
        Err(Kind::AnswerLost),
        Err(Kind::AnswerTimeout),
        response(503, None),
    ] {
        seed_randomness();
        let failing = outage.clone();
        let alexa = Modelled::new("", move |region| match region {
            Region::Eu => failing.clone(),
            _ => response(200, None),
        });
        let alexa = Arc::new(alexa);
        let (down, up) = tokio::join!(
            offer(&alexa, Region::Eu, 1000),
            offer(&alexa, Region::Na, 1000)
        );
        let attempts = attempts_of(&down);
        let what = outage.map(|response| response.status());
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
async fn a_region_that_recovers_has_its_full_rate_within_five_seconds() {
    seed_randomness();
    // A silent upstream takes longest, because each probe waits for its time-out.
    for (kind, most) in [(Kind::AnswerTimeout, 3700 * MS), (Kind::Connect, 2200 * MS)] {
        let mut slowest = Duration::ZERO;
        // It recovers at various moments between two probes.
        for outage in (0..20).map(|n| 20_000 * MS + 190 * MS * n) {
            let start = Instant::now();
            let alexa = Modelled::new("", move |_| {
                if start.elapsed() < outage {
                    Err(kind)
                } else {
                    response(200, None)
                }
            });
            let ended = offer(&Arc::new(alexa), Region::Eu, 3500).await;
            let failed = |call: &&Ended| call.outcome != Ok(200);
            let last = ended.iter().rfind(failed).unwrap().offset;
            let after = ended.iter().filter(|call| call.offset > last);
            assert!(after.count() > 500, "it has recovered");
            slowest = slowest.max(last.saturating_sub(outage));
        }
        println!("{kind:?}: full rate after {slowest:?} at most");
        // max_open, plus one probe that fails and one that succeeds.
        assert!(slowest <= most, "{slowest:?}");
    }
}

/// Opens on the first failure, for a long time.
const TOUCHY: &str = "[breaker]\nconsecutive_failures = 1\nopen = '1m'\nmax_open = '1m'\n";

#[tokio::test(start_paused = true)]
async fn a_retry_refused_by_the_breaker_leaves_the_last_outcome() {
    let script = vec![response(500, None), response(200, None)];
    let played = play(TOUCHY, script, 2500 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(500), 1));
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_queued_when_the_breaker_opens_fail_unsent() {
    let config = format!("{QUOTA}{TOUCHY}[retry]\nmax_attempts = 1\n");
    let alexa = Arc::new(Modelled::new(&config, |_| response(500, None)));
    let calls = (0..5).map(|_| {
        let alexa = Arc::clone(&alexa);
        tokio::spawn(async move { alexa.fetch(Region::Eu, 10_000 * MS).await.0 })
    });
    let calls: Vec<_> = calls.collect();
    let start = Instant::now();
    let mut ended = Vec::new();
    for call in calls {
        ended.push(call.await.unwrap());
    }
    assert_eq!(ended[0], Ok(500));
    assert_eq!(ended[1..], [Err(Kind::BreakerOpen); 4]);
    // The first permit that is given back passes from one to the next.
    assert_eq!(start.elapsed(), 1100 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_makes_room_for_the_next() {
    let config = "[breaker]\nconsecutive_failures = 1\n[retry]\nmax_attempts = 1\n";
    let script = Mutex::new(VecDeque::from([
        Err(Kind::Connect),
        Err(Kind::AnswerTimeout),
        response(200, None),
    ]));
    let alexa = Modelled::new(config, move |_| script.lock().pop_front().unwrap());
    alexa.fetch(Region::Eu, 2500 * MS).await.0.unwrap_err();
    sleep(500 * MS).await;
    {
        let mut probe = Box::pin(alexa.fetch(Region::Eu, 2500 * MS));
        let begun = tokio::time::timeout(50 * MS, &mut probe).await;
        assert!(begun.is_err(), "the probe is on its alexa");
        let other = alexa.fetch(Region::Eu, 2500 * MS).await.0;
        assert_eq!(other, Err(Kind::BreakerOpen), "one at a time");
    }
    assert_eq!(alexa.fetch(Region::Eu, 2500 * MS).await.0, Ok(200));
    assert_eq!(alexa.upstream.breaker(Region::Eu).state, Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_403_and_a_429_never_open_the_breaker() {
    for status in [403, 429] {
        let alexa = Arc::new(Modelled::new("", move |_| response(status, Some("60"))));
        let ended = offer(&alexa, Region::Eu, 1000).await;
        assert!(attempts_of(&ended) > 0, "{status}");
        let held = |call: &Ended| call.outcome == Err(Kind::BreakerOpen);
        assert!(!ended.iter().any(held), "{status}");
        assert_eq!(alexa.upstream.breaker(Region::Eu).state, Phase::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn short_deadlines_do_not_open_the_breaker() {
    let alexa = Modelled::new("", |_| response(200, None));
    for _ in 0..100 {
        let hurried = alexa.fetch(Region::Eu, 60 * MS).await;
        assert_eq!(hurried.0, Err(Kind::Deadline));
    }
    assert_eq!(alexa.fetch(Region::Eu, 2500 * MS).await.0, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn relayed_calls_ignore_the_breaker() {
    let alexa = Modelled::new(TOUCHY, |_| response(500, None));
    alexa.fetch(Region::Eu, 2500 * MS).await.0.unwrap();
    let state = || alexa.upstream.breaker(Region::Eu).state;
    assert_eq!(state(), Phase::Open);
    let due = Instant::now() + 1000 * MS;
    let (call, mut stats) = (call_to(Region::Eu), CallStats::default());
    let relayed = alexa.upstream.relay(
        &call,
        &alexa.config.gateway.upstream.relay,
        body::none(),
        RelayDeadlines {
            admit_by: due,
            respond_by: None,
        },
        &mut stats,
    );
    assert_eq!(relayed.await.unwrap().status(), 500);
    assert_eq!(state(), Phase::Open, "the relayed call does not count");
}
