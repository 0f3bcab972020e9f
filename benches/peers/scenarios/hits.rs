//! Hits: 10,000 tokens, three operations, 64 connections.

use crate::bench::{Bench, ScenarioResult};
use crate::peer::{COLUMNS, Peer};
use crate::table::{Bound, Promise, Table};

use super::warm::Warm;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let mut warm = Warm::new(bench).await?;
    let all = [Peer::Floor, Peer::Gateway, Peer::Nginx, Peer::Varnish];
    let peers = warm.start(bench, &all, false).await?;
    let calls = warm.any();
    let mut table = Table::new(
        "Hits",
        "10,000 tokens of 1,850 bytes, three operations, everything in the cache, 64 connections.",
        &COLUMNS,
    );
    for _ in 0..bench.options.rounds {
        for (peer, running) in &peers {
            table.add(peer, &running.measure(bench, &calls, None).await?);
        }
    }
    warm.only_hits().await?;
    let promises = vec![
        Promise::new(
            "CPU per hit / nginx's",
            table.ratio(Peer::Gateway, Peer::Nginx, 0),
            Bound::AtMost(0.5),
        ),
        Promise::new(
            "CPU per hit / the socket floor's",
            table.ratio(Peer::Gateway, Peer::Floor, 0),
            Bound::AtMost(2.0),
        ),
    ];
    Ok(ScenarioResult {
        tables: vec![table],
        promises,
    })
}
