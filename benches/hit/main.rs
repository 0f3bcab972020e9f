//! What one hit costs, in numbers that do not depend on how busy a machine is: the
//! instructions of the whole program for one hit, and its allocations.
//!
//! The gateway listens on a socket and one connection asks for what is stored, one
//! call at a time. Twice the calls are made in a second run, and the difference is
//! taken, so that start and filling the cache cancel out.
//!
//! `cargo bench --bench hit` counts, and fails when a hit takes over 5 % more
//! instructions or any more allocations than `benches/hit/counted.toml` says;
//! `-- --update` writes what was counted there. Instructions are counted by
//! valgrind's callgrind, which must be installed. The libraries choose code by what
//! the processor can do, so the count is for x86-64 with AVX2.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, io, thread};

use alexa_gateway::config::Config;
use alexa_gateway::config::layers::Sources;
use alexa_gateway::mock::{Mock, MockBehaviour, MockConfig, TokenSpec};
use alexa_gateway::route::Region;
use alexa_gateway::server::Server;
use anyhow::{Context as _, ensure};
use clap::Parser as _;
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TOKENS: usize = 8;
const OPERATIONS: [&str; 3] = ["name", "givenName", "mobileNumber"];
/// The hits of the shorter run.
const HITS: usize = 1000;
/// What a hit may take more than was counted before.
const ALLOWED: f64 = 1.05;
/// From the package's root, where cargo starts a bench.
const FILE: &str = "benches/hit/counted.toml";

#[derive(clap::Parser)]
struct Args {
    /// Writes what is counted to the file, for the next ones to be compared with.
    #[arg(long)]
    update: bool,
    /// Makes so many hits, and prints the allocations of all of them.
    #[arg(long, hide = true)]
    drive: Option<usize>,
    /// What cargo tells every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one hit takes.
#[derive(Serialize, Deserialize)]
struct Counted {
    instructions: u64,
    allocations: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(hits) = args.drive {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        println!("allocations: {}", runtime.block_on(drive(hits))?);
        return Ok(());
    }
    let (once, twice) = (count(HITS)?, count(2 * HITS)?);
    // Rounded to the nearest: what grows now and then, such as a queue, is no part of each
    // hit, and may fall into either of the two runs.
    let hits = HITS as u64;
    let each = |once: u64, twice: u64| (twice.saturating_sub(once) + hits / 2) / hits;
    let counted = Counted {
        instructions: each(once.instructions, twice.instructions),
        allocations: each(once.allocations, twice.allocations),
    };
    let Counted {
        instructions,
        allocations,
    } = counted;
    println!("a hit: {instructions} instructions, {allocations} allocations");
    if args.update {
        let text = toml::to_string(&counted)?;
        return Ok(fs::write(
            FILE,
            format!("# What `cargo bench --bench hit` counts for one hit.\n{text}"),
        )?);
    }
    let before: Counted = toml::from_str(&fs::read_to_string(FILE)?)?;
    let most = (before.instructions as f64 * ALLOWED) as u64;
    ensure!(
        instructions <= most && allocations <= before.allocations,
        "that is more than {most} instructions or {} allocations. Make a hit cheaper again, or \
         say in the commit why it costs more, with: cargo bench --bench hit -- --update",
        before.allocations,
    );
    Ok(())
}

/// Counts a run of so many hits.
fn count(hits: usize) -> anyhow::Result<Counted> {
    let program = env::current_exe()?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--drive", &hits.to_string()])
        .output()
        .context("running valgrind; is it installed?")?;
    let told = String::from_utf8(run.stderr)?;
    ensure!(run.status.success(), "a run failed:\n{told}");
    let after = |text: &str, label: &str| -> Option<u64> {
        let (_, rest) = text.split_once(label)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let out = String::from_utf8(run.stdout)?;
    Ok(Counted {
        instructions: after(&told, "Collected :").context("valgrind without a count")?,
        allocations: after(&out, "allocations:").context("a run without a count")?,
    })
}

/// Fills a cache and makes so many hits; returns how often memory was allocated.
async fn drive(hits: usize) -> anyhow::Result<usize> {
    let behaviour = MockBehaviour {
        latency: Duration::ZERO,
        jitter: Duration::ZERO,
        ..MockBehaviour::default()
    };
    let mock = Mock::start(MockConfig {
        behaviour,
        ..MockConfig::default()
    })
    .await?;
    let upstream = |r: Region| format!("[regions.{r}]\nupstream = 'http://{}'\n", mock.address(r));
    let text = format!(
        "[server]\nlisteners = '127.0.0.1:0'\n[admin]\nenabled = false\n\
         [log]\nrequests = false\n[cache]\nttl = '1h'\n{}",
        Region::ALL.map(upstream).concat()
    );
    let sources = Sources {
        file: Some(("bench", &text)),
        environment: &[],
    };
    let config = Config::load(&sources).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let server = Server::start(config).await?;
    let address = *server.addresses().first().context("no listener")?;
    let (done, ended) = oneshot::channel();
    thread::spawn(move || done.send(client(address, hits)));
    ended.await?.context("a call failed")
}

/// Makes each call once and then so many hits; returns the allocations of the hits.
fn client(address: SocketAddr, hits: usize) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let requests = requests();
    let mut answer = vec![0; 16 * 1024];
    let mut call = |n: usize, cache: &[u8]| {
        stream.write_all(&requests[n % requests.len()])?;
        // An answer is one write, and so it is one read.
        let length = stream.read(&mut answer)?;
        let answer = &answer[..length];
        let is =
            answer.starts_with(b"HTTP/1.1 200") && memchr::memmem::find(answer, cache).is_some();
        match is {
            true => Ok(()),
            false => Err(io::Error::other(
                String::from_utf8_lossy(answer).into_owned(),
            )),
        }
    };
    (0..requests.len()).try_for_each(|n| call(n, b"fwd=miss"))?;
    let before = ALLOCATOR.stats().allocations;
    (0..hits).try_for_each(|n| call(n, b"; hit;"))?;
    Ok(ALLOCATOR.stats().allocations - before)
}

/// What a skill asks, with tokens as Alexa makes them.
fn requests() -> Vec<Vec<u8>> {
    let spec = TokenSpec {
        lifetime: Duration::from_secs(6 * 3600),
        ..TokenSpec::default()
    };
    let of = |token: String| {
        OPERATIONS.map(|operation| {
            format!(
                "GET /v2/persons/~current/profile/{operation} HTTP/1.1\r\n\
                 Host: api.amazonalexa.com\r\nAccept: application/json\r\n\
                 User-Agent: ask-node-model/1.86.0 Node/v22\r\n\
                 Authorization: Bearer {token}\r\n\r\n"
            )
            .into_bytes()
        })
    };
    (0..TOKENS).flat_map(|_| of(spec.mint())).collect()
}
