//! Plays a schedule over HTTP and measures what its callers see.
//!
//! The load is open loop: a request is sent at its time whatever became of the others,
//! and its latency counts from that time, so a slow response delays no other request.
//! Each request ends within [`TIMEOUT`]. Nothing is retried, because the SDKs do not
//! retry. Every 200 is checked against the person behind its token.

use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::caller::{CallerStats, RequestEnd};
use super::schedule::{ProfileField, Schedule, Skill};
use crate::lab::mock::{Person, TokenSpec};

/// The time-out of a caller. Longer than the gateway's deadline, so that the gateway
/// gives up first.
pub const TIMEOUT: Duration = Duration::from_secs(4);

/// Plays a schedule to its end. `base` returns the base URL that a skill's services
/// call; `watch` is called after each response. Dropping the future cancels every
/// request.
pub async fn play(
    schedule: &Schedule,
    base: impl Fn(&Skill) -> String,
    mut watch: impl FnMut(&CallerStats),
) -> CallerStats {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    // HTTP/2 needs few connections, so a low limit on open files suffices.
    let client: Client = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        .build(connector);
    let turns: Vec<_> = schedule
        .turns
        .iter()
        .map(|skill| Turn::begin(skill, base(skill)))
        .collect();
    let mut stats = CallerStats::new();
    let mut requests = JoinSet::new();
    let start = Instant::now();
    for scheduled in &schedule.requests {
        let due = start + scheduled.at;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(due) => break,
                Some(ended) = requests.join_next() => record(ended, &mut stats, &mut watch),
            }
        }
        let client = client.clone();
        let prepared = turns[scheduled.turn].prepare(scheduled.field);
        requests.spawn(async move {
            Ended {
                end: send(&client, prepared, due).await,
                took: due.elapsed(),
            }
        });
    }
    while let Some(ended) = requests.join_next().await {
        record(ended, &mut stats, &mut watch);
    }
    stats
}

type Client = legacy::Client<HttpConnector, Empty<Bytes>>;

struct Ended {
    end: RequestEnd,
    took: Duration,
}

fn record(
    ended: Result<Ended, JoinError>,
    stats: &mut CallerStats,
    watch: &mut impl FnMut(&CallerStats),
) {
    let Ended { end, took } = ended.unwrap_or_else(|error| Ended {
        end: RequestEnd::Failed(format!("the task of a caller failed: {error}")),
        took: Duration::ZERO,
    });
    stats.record(end, took);
    watch(stats);
}

/// What the requests of one turn share.
struct Turn {
    base: String,
    token: String,
    person: Person,
}

/// A request, and the value expected in its response.
struct PreparedRequest {
    uri: String,
    authorization: String,
    expected: Value,
}

impl Turn {
    /// Begins a turn with a token of its own.
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

    fn prepare(&self, field: ProfileField) -> PreparedRequest {
        let person = &self.person;
        PreparedRequest {
            uri: format!("{}{}", self.base, field.path()),
            authorization: format!("Bearer {}", self.token),
            expected: match field {
                ProfileField::Name => json!({"name": person.name}),
                ProfileField::GivenName => json!({"name": person.given_name}),
                ProfileField::MobileNumber => json!({
                    "countryCode": person.country_code,
                    "phoneNumber": person.phone_number,
                }),
            },
        }
    }
}

async fn send(client: &Client, prepared: PreparedRequest, due: Instant) -> RequestEnd {
    let exchange = async {
        let request = Request::get(prepared.uri)
            .header(AUTHORIZATION, prepared.authorization)
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = client.request(request).await.map_err(|e| with_causes(&e))?;
        let status = response.status();
        let body = response.into_body().collect().await;
        Ok((status, body.map_err(|e| with_causes(&e))?.to_bytes()))
    };
    match timeout_at(due + TIMEOUT, exchange).await {
        Ok(Ok((StatusCode::OK, body))) => {
            let value: Option<Value> = serde_json::from_slice(&body).ok();
            if value == Some(prepared.expected) {
                RequestEnd::Correct
            } else {
                RequestEnd::Wrong
            }
        }
        Ok(Ok((StatusCode::TOO_MANY_REQUESTS, _))) => RequestEnd::Throttled,
        Ok(Ok((status, _))) => RequestEnd::Failed(format!("answered {status}")),
        Ok(Err(reason)) => RequestEnd::Failed(reason),
        Err(_) => RequestEnd::Failed(format!("no response within {TIMEOUT:?}")),
    }
}

/// Formats an error with its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
