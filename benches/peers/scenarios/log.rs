//! What one line for each request costs, written to a file as JSON.

use crate::bench::{Bench, COLUMNS, Outcome};
use crate::call::{Calls, Tokens};
use crate::load::{self, Until};
use crate::peer::{Peer, Setup, Upstream};
use crate::table::{Bound, Promise, Table};

use super::hits::ENTRIES;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Outcome> {
    let tokens = Tokens::for_entries(ENTRIES);
    let calls = Calls::any(&tokens, ENTRIES);
    let origin = bench.origin().await?;
    let mut servers = Vec::new();
    for peer in bench.installed(&[Peer::Gateway, Peer::Nginx]) {
        for access_log in [false, true] {
            let setup = Setup {
                access_log,
                ..Setup::cache(Upstream::Plain(origin.address))
            };
            let running = peer.start(bench, setup).await?;
            let each = Calls::each(&tokens, ENTRIES);
            load::closed(running.address, &each, Until::Calls(ENTRIES)).await?;
            servers.push((name(peer, access_log), running));
        }
    }
    let mut table = Table::new(
        "Access log",
        "Hits with a line of JSON for each request, and without. nginx gathers 64 KiB of lines \
         before it writes.",
        &COLUMNS,
    );
    for _ in 0..bench.rounds {
        for (name, running) in &servers {
            table.add(name, &bench.measure(running, &calls, None).await?);
        }
    }
    let (on, off) = (name(Peer::Gateway, true), name(Peer::Gateway, false));
    let promise = Promise::new(
        "CPU per hit, access log on / off",
        table.ratio(on, off, 0),
        Bound::AtMost(1.15),
    );
    Ok(Outcome {
        tables: vec![table],
        promises: vec![promise],
    })
}

fn name(peer: Peer, access_log: bool) -> String {
    format!("{peer}, log {}", if access_log { "on" } else { "off" })
}
