//! How long a hit takes at a part of what a peer can do. The load is open loop, so
//! that a slow answer delays none of the calls that follow it.

use crate::bench::{Bench, Outcome};
use crate::load;
use crate::peer::Peer;
use crate::table::Table;

use super::warm::Warm;

const PARTS: [f64; 3] = [0.1, 0.5, 0.8];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Outcome> {
    let mut warm = Warm::new(bench).await?;
    let all = [Peer::Floor, Peer::Gateway, Peer::Nginx, Peer::Varnish];
    let peers = warm.start(bench, &all, false).await?;
    let calls = warm.any();
    let mut table = Table::new(
        "Latency of hits, open loop",
        "Calls come at random times, at 10, 50 and 80 % of the peer's own most in the same round; \
         each counts from when it was due. Where the load was busy all the time at the most, it \
         was the load's and not the peer's.",
        &[
            "p99, µs",
            "p50, µs",
            "p99.9, µs",
            "requests/s",
            "load busy at the most, %",
        ],
    );
    for _ in 0..bench.rounds {
        for (peer, running) in &peers {
            let [_, most, .., busy] = running.measure(bench, &calls, None).await?;
            for part in PARTS {
                let rate = part * most;
                let seen = load::open(running.address, &calls, rate, bench.time).await?;
                let row = format!("{peer} at {:.0} %", 100.0 * part);
                let [p99, p50, p999] = [0.99, 0.5, 0.999].map(|share| seen.within(share));
                table.add(row, &[p99, p50, p999, seen.rate(), busy]);
            }
        }
    }
    warm.only_hits().await?;
    Ok(Outcome {
        tables: vec![table],
        promises: Vec::new(),
    })
}
