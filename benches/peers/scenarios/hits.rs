//! Answers from the cache: 10,000 tokens, three operations, 64 connections.

use crate::bench::{Bench, COLUMNS, Outcome};
use crate::call::{Calls, Tokens};
use crate::load::{self, Until};
use crate::peer::{Peer, Setup, Upstream};
use crate::table::{Bound, Promise, Table};

/// 10,000 tokens with three operations each.
pub(super) const ENTRIES: u64 = 30_000;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Outcome> {
    let tokens = Tokens::for_entries(ENTRIES);
    let calls = Calls::any(&tokens, ENTRIES);
    let origin = bench.origin().await?;
    let setup = Setup::cache(Upstream::Plain(origin.address));
    let mut peers = Vec::new();
    for peer in bench.installed(&[Peer::Floor, Peer::Gateway, Peer::Nginx, Peer::Varnish]) {
        let running = peer.start(bench, setup).await?;
        let each = Calls::each(&tokens, ENTRIES);
        load::closed(running.address, &each, Until::Calls(ENTRIES)).await?;
        peers.push((peer, running));
    }
    let before = origin.requests().await?;
    let mut table = Table::new(
        "Hits",
        "10,000 tokens of 1,850 bytes, three operations, everything in the cache, 64 connections.",
        &COLUMNS,
    );
    for _ in 0..bench.rounds {
        for (peer, running) in &peers {
            table.add(peer, &bench.measure(running, &calls, None).await?);
        }
    }
    origin.asked(before, 0).await?;
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
    Ok(Outcome {
        tables: vec![table],
        promises,
    })
}
