//! Plays a schedule against HTTP and measures what its callers see.
//!
//! Open loop: a request goes out at its time, whatever became of those before
//! it, and its latency counts from that time, so a slow answer cannot hide the
//! ones behind it. Requests are as many as the schedule says and each ends
//! within [`PATIENCE`]; nothing is retried, as the SDKs retry nothing. Every 200
//! is checked against the person behind its token.

use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::schedule::{Field, Schedule, Skill};
use crate::lab::mock::{Person, TokenSpec};

/// How long a caller waits: longer than the gateway's deadline, so that whoever
/// gives up first is not the caller.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// What the callers of one round have seen so far.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Requests that have ended.
    pub requests: u64,
    /// Answers 200, with the right value.
    pub ok: u64,
    /// Answers 429.
    pub throttled: u64,
    /// Answers 200 that do not belong to the token they were given to.
    pub wrong: u64,
    /// Requests that ended in any other way.
    pub failed: u64,
    /// One of the failures, in words.
    pub example: Option<String>,
    /// From when a request was due to its 200, in microseconds.
    latency: Histogram<u64>,
}

impl Seen {
    /// Before the first request has ended.
    #[must_use]
    pub fn nothing() -> Self {
        // Microseconds up to a minute, which is far beyond PATIENCE.
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3).expect("sound bounds");
        Self {
            requests: 0,
            ok: 0,
            throttled: 0,
            wrong: 0,
            failed: 0,
            example: None,
            latency,
        }
    }

    /// The time within which this share of the 200s came; zero without any.
    #[must_use]
    pub fn within(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    fn note(&mut self, end: End, took: Duration) {
        self.requests += 1;
        match end {
            End::Right => {
                self.ok += 1;
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.latency.saturating_record(micros);
            }
            End::Throttled => self.throttled += 1,
            End::Wrong => self.wrong += 1,
            End::Failed(why) => {
                self.failed += 1;
                self.example.get_or_insert(why);
            }
        }
    }
}

/// How a request ended.
enum End {
    Right,
    Wrong,
    Throttled,
    Failed(String),
}

/// Plays a schedule to its end. `base` says where a skill's services call, such
/// as `http://127.0.0.1:2780`; `watch` sees the figures grow. Dropping the future
/// ends every request.
pub async fn play(
    schedule: &Schedule,
    base: impl Fn(&Skill) -> String,
    mut watch: impl FnMut(&Seen),
) -> Seen {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    // HTTP/2, so that a machine which allows a process few files suffices.
    let client: Client = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        .build(connector);
    let turns: Vec<_> = schedule
        .turns
        .iter()
        .map(|skill| Turn::begin(skill, base(skill)))
        .collect();
    let mut seen = Seen::nothing();
    let mut requests = JoinSet::new();
    let start = Instant::now();
    for ask in &schedule.asks {
        let due = start + ask.at;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(due) => break,
                Some(ended) = requests.join_next() => count(ended, &mut seen, &mut watch),
            }
        }
        let (client, ask) = (client.clone(), turns[ask.turn].ask(ask.field));
        requests.spawn(async move { (request(&client, ask, due).await, due.elapsed()) });
    }
    while let Some(ended) = requests.join_next().await {
        count(ended, &mut seen, &mut watch);
    }
    seen
}

type Client = legacy::Client<HttpConnector, Empty<Bytes>>;
type Ended = Result<(End, Duration), tokio::task::JoinError>;

fn count(ended: Ended, seen: &mut Seen, watch: &mut impl FnMut(&Seen)) {
    let (end, took) = ended.unwrap_or_else(|error| {
        let why = format!("the caller broke: {error}");
        (End::Failed(why), Duration::ZERO)
    });
    seen.note(end, took);
    watch(seen);
}

/// What the requests of one turn share.
struct Turn {
    base: String,
    token: String,
    person: Person,
}

/// A request, and the value that must answer it.
struct Asked {
    uri: String,
    authorization: String,
    expected: Value,
}

impl Turn {
    /// Mints the turn's token.
    fn begin(skill: &Skill, base: String) -> Self {
        let spec = TokenSpec {
            region: skill.region,
            skill: skill.id.to_owned(),
            ..TokenSpec::default()
        };
        let token = spec.mint();
        Self {
            base,
            person: Person::of_token(&token),
            token,
        }
    }

    fn ask(&self, field: Field) -> Asked {
        let person = &self.person;
        Asked {
            uri: format!("{}{}", self.base, field.path()),
            authorization: format!("Bearer {}", self.token),
            expected: match field {
                Field::Name => json!({"name": person.name}),
                Field::GivenName => json!({"name": person.given_name}),
                Field::MobileNumber => json!({
                    "countryCode": person.country_code,
                    "phoneNumber": person.phone_number,
                }),
            },
        }
    }
}

async fn request(client: &Client, asked: Asked, due: Instant) -> End {
    let exchange = async {
        let request = Request::get(asked.uri)
            .header(AUTHORIZATION, asked.authorization)
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = client.request(request).await.map_err(|e| in_full(&e))?;
        let status = answer.status();
        let body = answer.into_body().collect().await;
        Ok((status, body.map_err(|e| in_full(&e))?.to_bytes()))
    };
    match timeout_at(due + PATIENCE, exchange).await {
        Ok(Ok((StatusCode::OK, body))) => {
            let value: Option<Value> = serde_json::from_slice(&body).ok();
            match value == Some(asked.expected) {
                true => End::Right,
                false => End::Wrong,
            }
        }
        Ok(Ok((StatusCode::TOO_MANY_REQUESTS, _))) => End::Throttled,
        Ok(Ok((status, _))) => End::Failed(format!("answered {status}")),
        Ok(Err(why)) => End::Failed(why),
        Err(_) => End::Failed(format!("no answer within {PATIENCE:?}")),
    }
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
