//! The attempt loop on paused time, with a model in the network's place.

use std::collections::VecDeque;
use std::sync::Mutex;

use http::StatusCode;

use super::*;
use crate::config::layers::Sources;

const MS: Duration = Duration::from_millis(1);

/// A way to an Alexa that is modelled.
struct Way {
    upstream: Upstream,
    config: Config,
}

impl Way {
    /// Each call takes 100 ms, and then gets what `answer` says.
    fn new(
        config: &str,
        answer: impl Fn(Region) -> Result<Whole, Kind> + Send + Sync + 'static,
    ) -> Self {
        let sources = Sources {
            file: Some(("test.toml", config)),
            environment: &[],
        };
        let config = Config::load(&sources).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let limits = Arc::new(Limits::new(&config.limits));
        let model = move |request: Request<Body>| -> client::Modelled {
            let host = request.uri().host().unwrap_or_default();
            let region = Region::ALL.into_iter().find(|region| region.host() == host);
            let answer = answer(region.unwrap());
            Box::pin(async move {
                sleep(100 * MS).await;
                answer
            })
        };
        let client = Client::modelled(Arc::new(model));
        Self {
            upstream: Upstream::new(client, limits, Arc::new(Metrics::new()), &config.file),
            config,
        }
    }

    async fn fetch(&self, region: Region, within: Duration) -> (Result<u16, Kind>, Effort) {
        let (call, never) = (call_to(region), std::future::pending());
        let deadline = Instant::now() + within;
        let fetching = self.upstream.fetch(&call, &self.config, deadline, never);
        let (outcome, effort) = fetching.await;
        let outcome = outcome.map(|whole| whole.status().as_u16());
        (outcome.map_err(|error| error.kind()), effort)
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

fn answer(status: u16, retry_after: Option<&str>) -> Result<Whole, Kind> {
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
    effort: Effort,
    took: Duration,
    unused: usize,
}

/// Plays a script of outcomes to one call.
async fn play(config: &str, script: Vec<Result<Whole, Kind>>, within: Duration) -> Played {
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let rest = Arc::clone(&script);
    let way = Way::new(config, move |_| script.lock().unwrap().pop_front().unwrap());
    let started = Instant::now();
    let (outcome, effort) = way.fetch(Region::Eu, within).await;
    Played {
        outcome,
        effort,
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
    assert_eq!(played.effort.attempts, 3);
    assert_eq!(played.effort.upstream_time, 300 * MS);
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
async fn every_attempt_pays_and_a_refused_retry_leaves_the_last_answer() {
    let script = vec![answer(500, None), answer(200, None)];
    let played = play(QUOTA, script, 2500 * MS).await;
    assert_eq!(played.outcome, Ok(200));
    assert!(played.effort.queue_wait > 900 * MS, "{:?}", played.effort);
    let script = vec![answer(500, None), answer(200, None)];
    let played = play(QUOTA, script, 1000 * MS).await;
    assert_eq!((played.outcome, played.unused), (Ok(500), 1));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_gives_up_before_it_is_sent() {
    let way = Way::new(QUOTA, |_| unreachable!("nothing is sent"));
    let limits = Arc::clone(&way.upstream.limits);
    let deadline = Instant::now() + 10_000 * MS;
    let held = limits.admit(Region::Eu, Family::Profile, None, Entry::New, deadline);
    let _held = held.await.unwrap();
    let (call, left) = (call_to(Region::Eu), sleep(10 * MS));
    let fetching = way.upstream.fetch(&call, &way.config, deadline, left);
    let (outcome, effort) = fetching.await;
    assert_eq!(outcome.unwrap_err().kind(), Kind::Abandoned);
    assert_eq!(effort.attempts, 0);
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

/// Makes so many calls, evenly spread, and answers their outcomes and attempts.
async fn offer(
    way: &Arc<Way>,
    region: Region,
    calls: u32,
    every: Duration,
) -> Vec<(Result<u16, Kind>, Effort)> {
    let start = Instant::now();
    let offered: Vec<_> = (0..calls)
        .map(|n| {
            let way = Arc::clone(way);
            tokio::spawn(async move {
                sleep_until(start + every * n).await;
                way.fetch(region, 2500 * MS).await
            })
        })
        .collect();
    let mut ended = Vec::new();
    for call in offered {
        ended.push(call.await.unwrap());
    }
    ended
}

fn attempts_of(ended: &[(Result<u16, Kind>, Effort)]) -> u32 {
    ended.iter().map(|(_, effort)| effort.attempts).sum()
}

#[tokio::test(start_paused = true)]
async fn retries_of_all_calls_together_stay_in_the_budget() {
    let way = Arc::new(Way::new("", |_| answer(500, None)));
    let ended = offer(&way, Region::Eu, 1000, 10 * MS).await;
    assert!(ended.iter().all(|(outcome, _)| *outcome == Ok(500)));
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
