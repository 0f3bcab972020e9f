//! What one line for each request costs, written to a file as JSON.

use crate::bench::{Bench, ScenarioResult};
use crate::peer::{COLUMNS, Peer};
use crate::table::{Bound, Promise, Table};

use super::warm::Warm;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let mut warm = Warm::new(bench).await?;
    let mut servers = Vec::new();
    for peer in [Peer::Gateway, Peer::Nginx] {
        for access_log in [false, true] {
            let started = warm.start(bench, &[peer], access_log).await?;
            let named = started.into_iter();
            servers.extend(named.map(|(_, running)| (name(peer, access_log), running)));
        }
    }
    let calls = warm.any();
    let mut table = Table::new(
        "Access log",
        "Hits with a line of JSON for each request, and without. nginx gathers 64 KiB of lines \
         before it writes.",
        &COLUMNS,
    );
    for _ in 0..bench.options.rounds {
        for (name, running) in &servers {
            table.add(name, &running.measure(bench, &calls, None).await?);
        }
    }
    warm.only_hits().await?;
    let (on, off) = (name(Peer::Gateway, true), name(Peer::Gateway, false));
    let promise = Promise::new(
        "CPU per hit, access log on / off",
        table.ratio(on, off, 0),
        Bound::AtMost(1.15),
    );
    Ok(ScenarioResult {
        tables: vec![table],
        promises: vec![promise],
    })
}

fn name(peer: Peer, access_log: bool) -> String {
    format!("{peer}, log {}", if access_log { "on" } else { "off" })
}
