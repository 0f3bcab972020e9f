//! A thousand callers of one cold key at once, with an origin that takes 50 ms: how long
//! they wait, and how many calls reach the origin.

use std::time::Duration;

use crate::bench::{Bench, ScenarioResult};
use crate::call::{Calls, Tokens};
use crate::load;
use crate::peer::Peer;
use crate::settings::{Setup, Upstream};
use crate::table::{Bound, Promise, Table};

const WAITERS: usize = 1000;
const DELAY: Duration = Duration::from_millis(50);
const STRAIGHT: &str = "straight to the origin";

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let tokens = Tokens::for_entries(3);
    let origin = bench.slow_origin(DELAY, bench.options.load_core).await?;
    // Without a peer in between, the origin is the server.
    let straight = bench.slow_origin(DELAY, bench.options.server_core).await?;
    let setup = Setup::cache(Upstream::Plain(origin.address));
    let mut servers = vec![(STRAIGHT.to_owned(), straight.address, &straight)];
    let mut peers = Vec::new();
    for peer in Peer::installed(bench, &[Peer::Gateway, Peer::Nginx, Peer::Varnish]) {
        let running = peer.start(bench, setup).await?;
        servers.push((peer.to_string(), running.address, &origin));
        peers.push(running);
    }
    let mut table = Table::new(
        "Cold storm",
        "1,000 open connections request one key that is not stored; the origin takes 50 ms.",
        &["p99, ms", "p50, ms", "longest, ms", "calls to the origin"],
    );
    let warm = Calls::each(&tokens, 3);
    for round in 0..=bench.options.rounds {
        for (name, address, origin) in &servers {
            let calls = Calls::same(&tokens);
            let open = load::keep_open(*address, &warm, WAITERS).await?;
            let before = origin.requests().await?;
            let seen = load::together(open, &calls).await?;
            let asked = origin.requests().await? - before;
            // The first round warms everything up.
            if round > 0 {
                let milliseconds = |share| seen.within(share) / 1e3;
                let figures = [0.99, 0.5, 1.0].map(milliseconds);
                table.add(name, &[figures[0], figures[1], figures[2], asked as f64]);
            }
        }
    }
    let promises = vec![
        Promise::new(
            "cold storm: p99 / straight to the origin",
            table.ratio(Peer::Gateway, STRAIGHT, 0),
            Bound::AtMost(1.25),
        ),
        Promise::new(
            "cold storm: calls to the origin",
            table.series(Peer::Gateway, 3).cloned(),
            Bound::AtMost(1.0),
        ),
    ];
    Ok(ScenarioResult {
        tables: vec![table],
        promises,
    })
}
