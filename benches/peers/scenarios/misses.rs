//! Misses: every token is new. The gateway looks up, coalesces and stores as always; the
//! other peers are plain proxies.

use crate::bench::{Bench, Origin, ScenarioResult};
use crate::call::{Calls, Tokens};
use crate::peer::{COLUMNS, Peer};
use crate::settings::{Setup, Upstream};
use crate::table::{Bound, Promise, Table};

use super::warm::ENTRIES;

pub(super) async fn plain(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let origin = bench.origin().await?;
    let setup = Setup::proxy(Upstream::Plain(origin.address));
    let note = "Every call goes to an origin that answers at once, over connections that are kept.";
    let table = measure(bench, "Misses over plain HTTP", note, &origin, setup).await?;
    let promises = vec![
        Promise::new(
            "CPU per miss / nginx's",
            table.ratio(Peer::Gateway, Peer::Nginx, 0),
            Bound::AtMost(0.8),
        ),
        Promise::new(
            "CPU per miss / HAProxy's",
            table.ratio(Peer::Gateway, Peer::Haproxy, 0),
            Bound::AtMost(1.3),
        ),
    ];
    Ok(ScenarioResult {
        tables: vec![table],
        promises,
    })
}

pub(super) async fn tls(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let origin = bench.tls_origin().await?;
    let certificates = bench.certificates();
    let setup = Setup::proxy(Upstream::Tls(origin.address, &certificates));
    let note = "The same over TLS: the gateway and HAProxy speak HTTP/2 to the origin, nginx \
                HTTP/1.1, which is all it can do.";
    let table = measure(bench, "Misses over TLS", note, &origin, setup).await?;
    Ok(ScenarioResult {
        tables: vec![table],
        promises: Vec::new(),
    })
}

async fn measure(
    bench: &Bench,
    title: &str,
    note: &str,
    origin: &Origin,
    setup: Setup<'_>,
) -> anyhow::Result<Table> {
    let tokens = Tokens::for_entries(ENTRIES);
    let mut peers = Vec::new();
    for peer in Peer::installed(bench, &[Peer::Gateway, Peer::Nginx, Peer::Haproxy]) {
        peers.push((peer, peer.start(bench, setup).await?));
    }
    let mut table = Table::new(title, note, &COLUMNS);
    for _ in 0..bench.options.rounds {
        for (peer, running) in &peers {
            let (calls, before) = (Calls::never(&tokens), origin.requests().await?);
            table.add(peer, &running.measure(bench, &calls, Some(origin)).await?);
            origin.asked(before, calls.made()).await?;
        }
    }
    Ok(table)
}
