//! Callers that open a connection for each call, as Python skills do, and an origin
//! with TLS whose packets take 20 ms there and back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::bench::{Bench, ScenarioResult};
use crate::call::{Calls, Tokens};
use crate::load::{Connection, Latencies, LoadResult, finish};
use crate::origin::connector;
use crate::peer::Peer;
use crate::settings::{Setup, Upstream};
use crate::table::{Bound, Promise, Table};

/// One way.
const DELAY: Duration = Duration::from_millis(10);
const CALLERS: usize = 8;
const CALLS: usize = 25;
/// For all calls of one round.
const PATIENCE: Duration = Duration::from_secs(60);
const STRAIGHT: &str = "straight to the origin";

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let tokens = Tokens::for_entries(300);
    let certificates = bench.certificates();
    let origin = bench.tls_origin().await?;
    let relay = bench.relay(origin.address, DELAY).await?;
    let setup = Setup::proxy(Upstream::Tls(relay.address, &certificates));
    let mut peers = Vec::new();
    for peer in Peer::installed(bench, &[Peer::Gateway, Peer::Nginx, Peer::Haproxy]) {
        peers.push((peer, peer.start(bench, setup).await?));
    }
    let tls = connector(&certificates)?;
    let mut table = Table::new(
        "A connection for each call, an origin 20 ms away over TLS",
        "Every call is a miss. Straight, each makes a TCP and a TLS handshake over the distance; \
         through a peer, only with the peer. Eight callers.",
        &["p50, ms", "p99, ms"],
    );
    for round in 0..=bench.options.rounds {
        let calls = Calls::never(&tokens);
        let straight = {
            let (tls, calls) = (tls.clone(), Arc::clone(&calls));
            move || straight(tls.clone(), relay.address, Arc::clone(&calls))
        };
        let mut all = vec![(STRAIGHT.to_owned(), repeat(straight).await?)];
        for (peer, running) in &peers {
            let (address, calls) = (running.address, Arc::clone(&calls));
            let through = move || through(address, Arc::clone(&calls));
            all.push((peer.to_string(), repeat(through).await?));
        }
        // In the first round peers open their connections to the origin.
        for (name, seen) in all.into_iter().filter(|_| round > 0) {
            table.add(name, &[seen.within(0.5) / 1e3, seen.within(0.99) / 1e3]);
        }
    }
    let promise = Promise::new(
        "a connection for each call: median through / straight",
        table.ratio(Peer::Gateway, STRAIGHT, 0),
        Bound::AtMost(0.4),
    );
    Ok(ScenarioResult {
        tables: vec![table],
        promises: vec![promise],
    })
}

/// One call as a client makes it that keeps no connection and remembers no session.
async fn straight(tls: TlsConnector, to: SocketAddr, calls: Arc<Calls>) -> io::Result<()> {
    let name = ServerName::from(to.ip());
    let stream = tls.connect(name, open(to).await?).await?;
    Connection::over(stream).call(&calls).await
}

/// The same call to a peer that is near and speaks plain HTTP.
async fn through(peer: SocketAddr, calls: Arc<Calls>) -> io::Result<()> {
    Connection::over(open(peer).await?).call(&calls).await
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Every caller makes its calls one after the other.
async fn repeat<F>(call: impl Fn() -> F + Clone + Send + 'static) -> anyhow::Result<LoadResult>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let latencies = Latencies::new()?;
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (call, latencies) = (call.clone(), latencies.clone());
        callers.spawn(async move {
            for _ in 0..CALLS {
                let sent = Instant::now();
                call().await?;
                latencies.record(sent.elapsed());
            }
            io::Result::Ok(())
        });
    }
    finish(callers, PATIENCE).await?;
    Ok(latencies.finish(start.elapsed()))
}
