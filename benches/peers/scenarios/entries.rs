//! A thousand to a million entries: the cost of a hit, and the memory of an entry.

use crate::bench::{Bench, ScenarioResult};
use crate::call::{Calls, Tokens};
use crate::load::{self, Until};
use crate::origin::BODY;
use crate::peer::{COLUMNS, Peer};
use crate::settings::{Setup, Upstream};
use crate::table::{Bound, Promise, Table};

const SIZES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let tokens = Tokens::for_entries(SIZES[3]);
    let origin = bench.origin().await?;
    let setup = Setup {
        entries: SIZES[3],
        ..Setup::cache(Upstream::Plain(origin.address))
    };
    let mut hits = Table::new(
        "Hits by the number of entries",
        "The gateway; every entry is as likely as any other.",
        &COLUMNS,
    );
    let mut memory = Table::new(
        "Memory per entry",
        "The gateway; resident memory from 1,000 entries to 1,000,000, less the bodies.",
        &["bytes beyond the body"],
    );
    for round in 0..bench.options.rounds {
        bench.say(&format!(
            "filling a cache with a million entries, round {}",
            round + 1
        ));
        let gateway = Peer::Gateway.start(bench, setup).await?;
        let mut taken = [0.0; SIZES.len()];
        for (size, taken) in SIZES.iter().zip(&mut taken) {
            let each = Calls::each(&tokens, *size);
            load::closed(gateway.address, &each, Until::Calls(*size)).await?;
            let before = origin.requests().await?;
            let calls = Calls::any(&tokens, *size);
            hits.add(size, &gateway.measure(bench, &calls, None).await?);
            origin.asked(before, 0).await?;
            *taken = gateway.memory()?;
        }
        let entries = (SIZES[3] - SIZES[0]) as f64;
        let each = (taken[3] - taken[0]) / entries - BODY.len() as f64;
        memory.add(Peer::Gateway, &[each]);
    }
    let promises = vec![
        Promise::new(
            "hits/s with 1,000,000 entries / with 1,000",
            hits.ratio(SIZES[3], SIZES[0], 1),
            Bound::AtLeast(0.85),
        ),
        Promise::new(
            "memory per entry beyond its body, bytes",
            memory.series(Peer::Gateway, 0).cloned(),
            Bound::AtMost(600.0),
        ),
    ];
    Ok(ScenarioResult {
        tables: vec![hits, memory],
        promises,
    })
}
