//! Ten thousand connections that have made a call and are kept: what each takes.

use std::time::Duration;

use tokio::time::sleep;

use crate::bench::{Bench, ScenarioResult};
use crate::call::{Calls, Tokens};
use crate::load;
use crate::peer::Peer;
use crate::settings::{Setup, Upstream};
use crate::table::{Bound, Promise, Table};

const CONNECTIONS: usize = 10_000;
/// Opened first, so that what a peer takes once is not counted.
const WARM: usize = 64;
/// After the last call, so that what is looked at is idle.
const IDLE: Duration = Duration::from_secs(2);

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let tokens = Tokens::for_entries(3);
    let calls = Calls::each(&tokens, 3);
    let origin = bench.origin().await?;
    let setup = Setup::cache(Upstream::Plain(origin.address));
    let peers = Peer::installed(
        bench,
        &[Peer::Gateway, Peer::Nginx, Peer::Varnish, Peer::Haproxy],
    );
    let mut table = Table::new(
        "Idle connections",
        "10,000 connections, each of which has made one call, two seconds after the last of \
         them. Memory of the processes alone: what the kernel keeps for a socket is the same for all.",
        &["KiB per connection"],
    );
    for _ in 0..bench.options.rounds {
        for peer in &peers {
            let running = peer.start(bench, setup).await?;
            let _warm = load::keep_open(running.address, &calls, WARM).await?;
            sleep(IDLE).await;
            let before = running.memory()?;
            let _idle = load::keep_open(running.address, &calls, CONNECTIONS).await?;
            sleep(IDLE).await;
            let taken = running.memory()? - before;
            table.add(peer, &[taken / 1024.0 / CONNECTIONS as f64]);
        }
    }
    let promise = Promise::new(
        "memory per idle connection, KiB",
        table.series(Peer::Gateway, 0).cloned(),
        Bound::AtMost(12.0),
    );
    Ok(ScenarioResult {
        tables: vec![table],
        promises: vec![promise],
    })
}
