//! A quota of Alexa at twice the load, on real sockets.
//!
//! The mock enforces 50 requests in any second; 100 a second are offered, each
//! with a token of its own, for 30 s: straight to it, through nginx with
//! `limit_req`, and through the gateway. The load is open loop: a request goes out
//! when it is due, and its time counts from then. Both proxies know the quota and
//! the deadline of 2.5 s, and may let a request wait for as long as that allows.
//!
//! `cargo bench --bench quota`, or shorter and harder:
//! `cargo bench --bench quota -- --seconds 4 --times 10`

#![expect(clippy::print_stdout, reason = "a bench prints")]

#[path = "peers/nginx.rs"]
mod nginx;
#[path = "peers/process.rs"]
mod process;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use alexa_gateway::config::Config;
use alexa_gateway::config::layers::Sources;
use alexa_gateway::lab::mock::{Mock, MockBehaviour, MockConfig, TokenSpec};
use alexa_gateway::region::Region;
use alexa_gateway::server::Server;
use anyhow::Context as _;
use bytes::Bytes;
use clap::Parser as _;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The quota of the mock, in any second.
const QUOTA: u32 = 50;
/// The deadline of a request, the gateway's default.
const DEADLINE: Duration = Duration::from_millis(2500);
/// How late a response may be and still count, for the way back through the load.
const GRACE: Duration = Duration::from_millis(20);
/// The latency of the mock, as `alexa-gateway mock` has it.
const LATENCY: Duration = Duration::from_millis(60);
const JITTER: Duration = Duration::from_millis(20);

#[derive(clap::Parser)]
struct Args {
    /// How long requests are sent.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// The load, as a multiple of the quota.
    #[arg(long, default_value_t = 2)]
    times: u32,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The response to one request.
struct Reply {
    status: u16,
    /// Whether Alexa generated the response, and not a proxy.
    from_alexa: bool,
    took: Duration,
}

/// The result of one run.
struct Round {
    replies: Vec<Reply>,
    /// From the first request to the last response.
    lasted: Duration,
    /// The number of 429 responses of the mock.
    upstream_429: u64,
}

impl Round {
    fn count(&self, which: impl Fn(&Reply) -> bool) -> usize {
        self.replies.iter().filter(|reply| which(reply)).count()
    }

    /// Responses within the deadline.
    fn served(&self) -> usize {
        self.count(|reply| reply.status == 200 && reply.took <= DEADLINE + GRACE)
    }

    /// 429 responses of Alexa that skills saw.
    fn alexa_429(&self) -> usize {
        self.count(|reply| reply.status == 429 && reply.from_alexa)
    }

    /// Served requests as a share of the quota over the run: one window at once, and
    /// another with each second that passed.
    fn goodput(&self) -> f64 {
        let windows = 1 + self.lasted.as_secs();
        self.served() as f64 / (f64::from(QUOTA) * windows as f64)
    }

    fn print(&self, name: &str) {
        let mut refused: Vec<_> = self.replies.iter().filter(|r| r.status == 429).collect();
        refused.sort_by_key(|reply| reply.took);
        let after = |share: f64| {
            let last = refused.len().saturating_sub(1);
            let reply = refused.get((last as f64 * share).round() as usize);
            reply.map_or_else(
                || "-".to_owned(),
                |reply| format!("{:.1} ms", 1e3 * reply.took.as_secs_f64()),
            )
        };
        let late = self.count(|reply| reply.status == 200) - self.served();
        let other = self.count(|reply| reply.status != 200 && reply.status != 429);
        println!(
            "{name:<9}{:>7}{:>9.1} %{:>6}{:>9}{:>11}{:>11}{:>14}{:>17}{:>7}",
            self.served(),
            100.0 * self.goodput(),
            late,
            refused.len(),
            after(0.5),
            after(0.99),
            self.upstream_429,
            self.alexa_429(),
            other,
        );
    }
}

async fn mock() -> anyhow::Result<Mock> {
    let behaviour = MockBehaviour {
        skill_quota: Some(format!("{QUOTA}/1s").parse()?),
        latency: LATENCY,
        jitter: JITTER,
        ..MockBehaviour::default()
    };
    let config = MockConfig {
        behaviour,
        ..MockConfig::default()
    };
    Ok(Mock::start(config).await?)
}

async fn gateway(mock: &Mock) -> anyhow::Result<Server> {
    let upstream = |r: Region| format!("[regions.{r}]\nupstream = 'http://{}'\n", mock.address(r));
    let text = format!(
        "[server]\nlisteners = '127.0.0.1:0'\n[admin]\nenabled = false\n[log]\nrequests = false\n\
         [deadline]\ndefault = '{}ms'\n\
         [limits.profile]\nskill = {{ requests = {QUOTA}, per = '1s' }}\n{}",
        DEADLINE.as_millis(),
        Region::ALL.map(upstream).concat()
    );
    let sources = Sources {
        file: Some(("bench", &text)),
        environment: &[],
    };
    let config = Config::load(&sources).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    Ok(Server::start(config.server, config.admin, config.gateway).await?)
}

/// The best that `limit_req` can be told: the quota as a rate, delays rather than
/// refusals, as many waiting as are answered before the deadline, and connections
/// to Alexa that are kept.
fn limit_req(listen: SocketAddr, alexa: SocketAddr) -> String {
    let waiting = DEADLINE - LATENCY - JITTER;
    let burst = (waiting.as_secs_f64() * f64::from(QUOTA)) as u32;
    format!(
        "    limit_req_zone $server_name zone=alexa:64k rate={QUOTA}r/s;\n    \
             upstream alexa {{ server {alexa}; keepalive 64; }}\n    \
             server {{\n        \
                 listen {listen};\n        \
                 server_name bench;\n        \
                 location / {{\n            \
                     limit_req zone=alexa burst={burst};\n            \
                     limit_req_status 429;\n            \
                     proxy_pass http://alexa;\n            \
                     proxy_http_version 1.1;\n            \
                     proxy_set_header Connection \"\";\n        \
                 }}\n    \
             }}"
    )
}

async fn round(address: SocketAddr, mock: &Mock, args: &Args) -> anyhow::Result<Round> {
    mock.reset_counters();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let start = Instant::now();
    let mut requests = JoinSet::new();
    let offered = QUOTA * args.times;
    for n in 0..offered * args.seconds {
        let due = start + Duration::from_secs(1) * n / offered;
        let client = client.clone();
        requests.spawn(async move {
            sleep_until(due).await;
            let spec = TokenSpec {
                region: Region::Eu,
                ..TokenSpec::default()
            };
            let request =
                Request::get(format!("http://{address}/v2/persons/~current/profile/name"))
                    .header("authorization", format!("Bearer {}", spec.mint()))
                    .body(Empty::new())?;
            let response = client.request(request).await?;
            let reply = Reply {
                status: response.status().as_u16(),
                from_alexa: response.headers().contains_key("x-amzn-requestid"),
                took: due.elapsed(),
            };
            response.into_body().collect().await?;
            anyhow::Ok(reply)
        });
    }
    let replies = requests
        .join_all()
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    Ok(Round {
        replies,
        lasted: start.elapsed(),
        upstream_429: mock.counters().status(429),
    })
}

async fn run(args: &Args) -> anyhow::Result<()> {
    println!(
        "{} requests/s for {} s against {QUOTA} in any second; {} ms ± {} ms away, deadline {} ms",
        QUOTA * args.times,
        args.seconds,
        LATENCY.as_millis(),
        JITTER.as_millis(),
        DEADLINE.as_millis()
    );
    println!(
        "{:<9}{:>7}{:>11}{:>6}{:>9}{:>11}{:>11}{:>14}{:>17}{:>7}",
        "",
        "served",
        "of quota",
        "late",
        "refused",
        "median",
        "p99",
        "429s of Alexa",
        "that skills saw",
        "other"
    );
    let alexa = mock().await?;
    let straight = round(alexa.address(Region::Eu), &alexa, args).await?;
    straight.print("straight");

    let nginx = match nginx::program() {
        Some(program) => {
            let alexa = mock().await?;
            let listen = process::free_address()?;
            let http = limit_req(listen, alexa.address(Region::Eu));
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quota-nginx");
            let _nginx = nginx::start(&program, &folder, &http, listen, None)
                .await
                .context("nginx")?;
            let round = round(listen, &alexa, args).await?;
            round.print("nginx");
            Some(round)
        }
        None => None,
    };

    let alexa = mock().await?;
    let server = gateway(&alexa).await?;
    let gateway = round(server.addresses()[0], &alexa, args).await?;
    gateway.print("gateway");
    server.stop().await;

    match nginx {
        Some(nginx) => println!(
            "gateway to nginx: goodput {:.2}; 429s of Alexa {} to {}",
            gateway.goodput() / nginx.goodput(),
            gateway.upstream_429,
            nginx.upstream_429
        ),
        None => println!(
            "nginx is not installed, so it was left out (Debian: apt-get install nginx-light)"
        ),
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(&Args::parse()))
}
