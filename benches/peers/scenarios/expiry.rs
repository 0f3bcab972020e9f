//! A million entries that expire together while others stay in use: how long they stay in
//! the table, and how that affects the latency of other requests.
//!
//! A response is fresh as long as its token is valid, and all tokens of the million expire
//! in the same second. The status page shows the number of entries.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until};

use crate::bench::{Bench, Origin, ScenarioResult};
use crate::call::{Calls, Tokens};
use crate::load::{self, Connection, LoadResult, OpenLoop, Until};
use crate::peer::{Peer, Running};
use crate::process::free_address;
use crate::settings::{Setup, Upstream};
use crate::table::{Bound, Promise, Table};

/// Entries that stay fresh and in use.
const STEADY: u64 = 10_000;
const HITS_PER_SECOND: f64 = 200.0;
/// Each of them stores a response.
const MISSES_PER_SECOND: f64 = 50.0;
/// Filling may take this many times as long as the steady entries suggest.
const SLACK: f64 = 1.5;
/// Added to that, for short fills.
const GRACE: Duration = Duration::from_secs(3);
/// Opening all connections takes less.
const CONNECTING: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);
/// The shortest time over which the latency during an expiry is taken.
const SHORTEST: Duration = Duration::from_secs(2);
/// The bench fails if the entries are still stored after this time.
const PATIENCE: Duration = Duration::from_secs(120);

const HITS: [&str; 2] = ["hits, before", "hits, during"];
const MISSES: [&str; 2] = ["misses, before", "misses, during"];
const GATEWAY: &str = "gateway";

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let origin = bench.origin().await?;
    let mut latency = Table::new(
        "Latency while entries expire",
        "The gateway, open loop: 200 hits and 50 misses a second, before and during the expiry.",
        &["p99, ms", "p50, ms", "longest, ms", "calls"],
    );
    let mut removal = Table::new(
        "Expiry",
        "From the expiry of the last entry until the status page counts none of them.",
        &["s", "entries", "stored/s"],
    );
    for round in 1..=bench.options.rounds {
        bench.say(&format!(
            "letting {} entries expire, round {round}",
            bench.options.expiring
        ));
        let setup = Setup {
            entries: bench.options.expiring + 2 * STEADY,
            admin: Some(free_address()?),
            ..Setup::cache(Upstream::Plain(origin.address))
        };
        let gateway = Peer::Gateway.start(bench, setup).await?;
        let status = Status(setup.admin.context("no address of the status page")?);
        let figures = measure(bench, &gateway, &origin, status).await?;
        for (row, seen) in HITS.iter().chain(&MISSES).zip(&figures.latency) {
            let [p99, p50, longest] = [0.99, 0.5, 1.0].map(|share| seen.within(share) / 1e3);
            latency.add(row, &[p99, p50, longest, seen.calls() as f64]);
        }
        let removed = figures.removed.as_secs_f64();
        removal.add(
            GATEWAY,
            &[removed, bench.options.expiring as f64, figures.filled],
        );
    }
    let promises = vec![
        Promise::new(
            "expiry: until they have left, s",
            removal.series(GATEWAY, 0).cloned(),
            Bound::AtMost(2.0),
        ),
        Promise::new(
            "expiry: rise of the hits' p99, ms",
            latency.difference(HITS[1], HITS[0], 0),
            Bound::AtMost(5.0),
        ),
        Promise::new(
            "expiry: rise of the misses' p99, ms",
            latency.difference(MISSES[1], MISSES[0], 0),
            Bound::AtMost(5.0),
        ),
    ];
    Ok(ScenarioResult {
        tables: vec![removal, latency],
        promises,
    })
}

/// What one round shows.
struct Figures {
    /// From the expiry of the last entry until they are removed.
    removed: Duration,
    /// Hits before and during the expiry, then misses before and during it.
    latency: [LoadResult; 4],
    /// Entries per second while the cache was filled.
    filled: f64,
}

async fn measure(
    bench: &Bench,
    gateway: &Running,
    origin: &Origin,
    status: Status,
) -> anyhow::Result<Figures> {
    // The origin counts over all rounds.
    let earlier = origin.requests().await?;
    let begun = Instant::now();
    let tokens = Tokens::for_entries(STEADY);
    let steady = Calls::each(&tokens, STEADY);
    load::closed(gateway.address, &steady, Until::Calls(STEADY)).await?;
    let each = begun.elapsed().as_secs_f64() / STEADY as f64;

    let filling = Duration::from_secs_f64(SLACK * each * bench.options.expiring as f64);
    let expiry = Expiry::after(filling + GRACE + CONNECTING + bench.options.time)?;
    let begun = Instant::now();
    let short_lived = Tokens::valid_until(expiry.at, bench.options.expiring);
    let fill = Calls::each(&short_lived, bench.options.expiring);
    load::closed(gateway.address, &fill, Until::Calls(bench.options.expiring)).await?;
    let filled = bench.options.expiring as f64 / begun.elapsed().as_secs_f64();
    drop((fill, short_lived));

    let stored = origin.requests().await? - earlier;
    ensure!(
        stored == STEADY + bench.options.expiring && status.entries().await? == stored,
        "not all of the {stored} responses are stored"
    );
    let hits = Calls::any(&tokens, STEADY);
    let misses = Calls::never(&tokens);
    let connecting = expiry.first - bench.options.time - CONNECTING;
    ensure!(
        Instant::now() < connecting,
        "filling took longer than the tokens are valid"
    );
    sleep_until(connecting).await;
    let connect = |calls| OpenLoop::connect(gateway.address, calls);
    let before = Pair {
        hits: connect(&hits).await?,
        misses: connect(&misses).await?,
    };
    let during = Pair {
        hits: connect(&hits).await?,
        misses: connect(&misses).await?,
    };
    sleep_until(expiry.first - bench.options.time).await;
    let before = before.run(|| Instant::now() < expiry.first).await?;
    ensure!(
        status.entries().await? >= stored,
        "entries were removed before they expired"
    );
    let gone = Cell::new(None);
    let (during, removed) = tokio::try_join!(
        during.run(|| gone.get().is_none() || expiry.first.elapsed() < SHORTEST),
        async {
            let at = status.wait_for(|| STEADY + misses.made()).await?;
            gone.set(Some(at));
            Ok(at.saturating_duration_since(expiry.last))
        }
    )?;
    let asked = origin.requests().await? - earlier - stored;
    ensure!(
        asked == misses.made(),
        "a steady entry was fetched again: the origin has received {asked} calls instead of {}",
        misses.made()
    );
    let [[hits_before, misses_before], [hits_during, misses_during]] = [before, during];
    Ok(Figures {
        removed,
        latency: [hits_before, hits_during, misses_before, misses_during],
        filled,
    })
}

/// The second in which the entries expire. Tokens expire at a whole second; an entry
/// expires up to a second later, by the fraction of a second at which it was stored.
struct Expiry {
    at: SystemTime,
    first: Instant,
    last: Instant,
}

impl Expiry {
    fn after(time: Duration) -> anyhow::Result<Self> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let second = (wall + time).duration_since(UNIX_EPOCH)?.as_secs();
        let at = UNIX_EPOCH + Duration::from_secs(second);
        let first = now + at.duration_since(wall)?;
        Ok(Self {
            at,
            first,
            last: first + Duration::from_secs(1),
        })
    }
}

/// Hits and misses at the same time.
struct Pair {
    hits: OpenLoop,
    misses: OpenLoop,
}

impl Pair {
    async fn run(self, more: impl Fn() -> bool) -> anyhow::Result<[LoadResult; 2]> {
        let (hits, misses) = tokio::try_join!(
            self.hits.run(HITS_PER_SECOND, &more),
            self.misses.run(MISSES_PER_SECOND, &more)
        )?;
        Ok([hits, misses])
    }
}

/// The gateway's status page, by its address.
struct Status(SocketAddr);

#[derive(Deserialize)]
struct Page {
    cache: Count,
}

#[derive(Deserialize)]
struct Count {
    entries: u64,
}

impl Status {
    /// Returns the number of entries. Opens a connection each time, because an idle one
    /// would be closed before the expiry.
    async fn entries(&self) -> anyhow::Result<u64> {
        let page = Connection::open(self.0).await?.get("/-/status").await;
        let page = page.context("the status page")?;
        Ok(serde_json::from_slice::<Page>(&page)?.cache.entries)
    }

    /// Waits until there are at most `most` entries; returns when that was.
    async fn wait_for(&self, most: impl Fn() -> u64) -> anyhow::Result<Instant> {
        let begun = Instant::now();
        loop {
            let entries = self.entries().await?;
            if entries <= most() {
                return Ok(Instant::now());
            }
            if begun.elapsed() > PATIENCE {
                bail!("{entries} entries after {PATIENCE:?}");
            }
            sleep(POLL).await;
        }
    }
}
