//! From nothing to the first answer, the memory of a peer that has nothing to do,
//! and the size of the gateway's program.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use crate::bench::{Bench, ScenarioResult};
use crate::call::{Calls, Tokens};
use crate::load;
use crate::peer::Peer;
use crate::settings::{Setup, Upstream};
use crate::table::{Bound, Promise, Table};

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
        "Start",
        "From starting the process to its first answer, which the origin gave; then the memory of \
         its processes.",
        &["first answer, ms", "idle memory, MiB"],
    );
    for _ in 0..bench.options.rounds {
        for peer in &peers {
            let start = Instant::now();
            let running = peer.start(bench, setup).await?;
            let first = load::keep_open(running.address, &calls, 1).await?;
            let took = start.elapsed();
            drop(first);
            let memory = running.memory()? / f64::from(1 << 20);
            table.add(peer, &[1e3 * took.as_secs_f64(), memory]);
        }
    }
    let mut size = Table::new(
        "Program",
        "The gateway's program without symbols.",
        &["MiB"],
    );
    let program = Peer::Gateway.program().context("no program")?;
    size.add(
        Peer::Gateway,
        &[stripped(bench, &program)? as f64 / f64::from(1 << 20)],
    );
    let of_gateway = |table: &Table, column| table.series(Peer::Gateway, column).cloned();
    let promises = vec![
        Promise::new(
            "start to first answer, ms",
            of_gateway(&table, 0),
            Bound::AtMost(30.0),
        ),
        Promise::new(
            "idle resident memory, MiB",
            of_gateway(&table, 1),
            Bound::AtMost(12.0),
        ),
        Promise::new(
            "stripped binary, MiB",
            of_gateway(&size, 0),
            Bound::AtMost(12.0),
        ),
    ];
    Ok(ScenarioResult {
        tables: vec![table, size],
        promises,
    })
}

/// How many bytes a program has without its symbols.
fn stripped(bench: &Bench, program: &Path) -> anyhow::Result<u64> {
    let bare = bench.fresh_folder("stripped")?.join("program");
    let strip = Command::new("strip")
        .arg("-o")
        .arg(&bare)
        .arg(program)
        .status();
    let status = strip.context("starting strip (Debian: apt-get install binutils)")?;
    ensure!(status.success(), "strip ended with {status}");
    Ok(fs::metadata(bare)?.len())
}
