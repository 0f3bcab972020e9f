//! The latency of hits at a share of the peak throughput. The load is open loop, so that a
//! slow response delays no other call.

use crate::bench::{Bench, ScenarioResult};
use crate::load;
use crate::peer::Peer;
use crate::table::Table;

use super::warm::Warm;

const PARTS: [f64; 3] = [0.1, 0.5, 0.8];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let mut warm = Warm::new(bench).await?;
    let all = [Peer::Floor, Peer::Gateway, Peer::Nginx, Peer::Varnish];
    let peers = warm.start(bench, &all, false).await?;
    let calls = warm.any();
    let mut table = Table::new(
        "Latency of hits, open loop",
        "Calls are due at random times, at 10, 50 and 80 % of the peer's peak throughput in the \
         same round; latency counts from when a call was due. If the load was always busy at \
         the peak, the load was the limit and not the peer.",
        &[
            "p99, µs",
            "p50, µs",
            "p99.9, µs",
            "requests/s",
            "load busy at the peak, %",
        ],
    );
    for _ in 0..bench.options.rounds {
        for (peer, running) in &peers {
            let [_, most, .., busy] = running.measure(bench, &calls, None).await?;
            for part in PARTS {
                let rate = part * most;
                let seen = load::open(running.address, &calls, rate, bench.options.time).await?;
                let row = format!("{peer} at {:.0} %", 100.0 * part);
                let [p99, p50, p999] = [0.99, 0.5, 0.999].map(|share| seen.within(share));
                table.add(row, &[p99, p50, p999, seen.rate(), busy]);
            }
        }
    }
    warm.only_hits().await?;
    Ok(ScenarioResult {
        tables: vec![table],
        promises: Vec::new(),
    })
}
