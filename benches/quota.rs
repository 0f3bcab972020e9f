//! How much of Alexa's quota is used under overload, and how fast a refusal is.
//!
//! On real sockets: 2,000 requests, each with a token of its own, are offered in
//! 4 s to a quota of 50 in any second, which the mock enforces. Three rounds of
//! about 6 s through the gateway, and one straight to the mock for comparison.
//!
//! `cargo bench --bench quota`

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and fails loudly"
)]

use std::net::SocketAddr;
use std::time::Duration;

use alexa_gateway::config::Config;
use alexa_gateway::config::layers::Sources;
use alexa_gateway::mock::{Mock, MockBehaviour, MockConfig, TokenSpec};
use alexa_gateway::route::Region;
use alexa_gateway::server::Server;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

const REQUESTS: u32 = 2000;
const OFFERED_IN: Duration = Duration::from_secs(4);
const QUOTA: f64 = 50.0;
const ROUNDS: usize = 3;

/// What came of one round.
struct Round {
    served: usize,
    refused: Vec<Duration>,
    other: usize,
    upstream_429: u64,
    took: Duration,
}

impl Round {
    /// The share of what the quota allowed from the first request to the last
    /// answer: 50 at once, and 50 more with each second that passed.
    fn share(&self) -> f64 {
        self.served as f64 / (QUOTA * (1.0 + self.took.as_secs_f64().floor()))
    }

    fn print(&mut self, name: &str) {
        self.refused.sort();
        let at = |share: f64| {
            let last = self.refused.len().saturating_sub(1);
            let at = (last as f64 * share) as usize;
            self.refused
                .get(at)
                .map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
        };
        println!(
            "{name:<12} {:>6} {:>5.1} % {:>8} {:>6.1} ms {:>6.1} ms {:>8.1} ms {:>6} {:>9}",
            self.served,
            100.0 * self.share(),
            self.refused.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            self.other,
            self.upstream_429,
        );
    }
}

async fn mock() -> Mock {
    let skill_quota = Some("50/1s".parse().unwrap());
    let behaviour = MockBehaviour {
        skill_quota,
        ..MockBehaviour::default()
    };
    Mock::start(MockConfig {
        behaviour,
        ..MockConfig::default()
    })
    .await
    .unwrap()
}

async fn gateway(mock: &Mock) -> Server {
    let upstream = |r: Region| format!("[regions.{r}]\nupstream = 'http://{}'\n", mock.address(r));
    let text = format!(
        "[server]\nlisteners = '127.0.0.1:0'\n[admin]\nenabled = false\n[log]\nrequests = false\n\
         [limits.profile]\nskill = {{ requests = 50, per = '1s' }}\n{}",
        Region::ALL.map(upstream).concat()
    );
    let sources = Sources {
        file: Some(("bench", &text)),
        environment: &[],
    };
    Server::start(Config::load(&sources).unwrap())
        .await
        .unwrap()
}

async fn round(address: SocketAddr, mock: &Mock) -> Round {
    mock.reset_counters();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let start = Instant::now();
    let mut requests = JoinSet::new();
    for n in 0..REQUESTS {
        let token = TokenSpec {
            region: Region::Eu,
            ..TokenSpec::default()
        }
        .mint();
        let request = Request::get(format!("http://{address}/v2/persons/~current/profile/name"))
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::new())
            .unwrap();
        let client = client.clone();
        requests.spawn(async move {
            sleep_until(start + OFFERED_IN * n / REQUESTS).await;
            let asked = Instant::now();
            let response = client.request(request).await.unwrap();
            let status = response.status().as_u16();
            response.into_body().collect().await.unwrap();
            (status, asked.elapsed())
        });
    }
    let replies = requests.join_all().await;
    let with = |status| replies.iter().filter(move |(s, _)| *s == status);
    let (served, refused) = (
        with(200).count(),
        with(429).map(|(_, took)| *took).collect::<Vec<_>>(),
    );
    Round {
        other: replies.len() - served - refused.len(),
        served,
        refused,
        upstream_429: mock.counters().status(429),
        took: start.elapsed(),
    }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        println!("             served   share  refused    median      p99        max  other  429 of Alexa");
        let alexa = mock().await;
        round(alexa.address(Region::Eu), &alexa).await.print("straight");
        for n in 1..=ROUNDS {
            let alexa = mock().await;
            let server = gateway(&alexa).await;
            let mut round = round(server.addresses()[0], &alexa).await;
            round.print(&format!("gateway {n}"));
            server.stop().await;
        }
    });
}
