//! The cost of one hit and one miss in instructions and allocations of the whole program,
//! which do not depend on how busy the machine is.
//!
//! The gateway listens on a socket, and one connection makes one call after the other, all
//! hits or all misses. Caller and origin run in a process that is not counted. A second
//! run makes twice as many calls, and the difference counts, so that the cost of starting
//! and of filling the cache cancels out.
//!
//! `cargo bench --bench count` counts, and fails when either takes over 5 % more
//! instructions or any more allocations than `benches/count/counted.toml` says;
//! `-- --update` writes what was counted there. Instructions are counted by
//! valgrind's callgrind, which must be installed. The libraries choose code by what
//! the processor can do, so the count is for x86-64 with AVX2.

#![expect(clippy::print_stdout, reason = "a bench prints")]

mod play;

use std::alloc::System;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use alexa_gateway::config::Config;
use alexa_gateway::config::layers::Sources;
use alexa_gateway::region::Region;
use alexa_gateway::server::Server;
use anyhow::{Context as _, ensure};
use clap::Parser as _;
use play::Calls;
use serde::{Deserialize, Serialize};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The calls of the shorter run.
const CALLS: usize = 1000;
/// The number of runs, of which the least counts: the allocator of the system tidies up in
/// some runs and not in others.
const RUNS: usize = 5;
/// The factor by which instructions may grow.
const ALLOWED: f64 = 1.05;
/// Relative to the root of the package, where cargo starts a bench.
const FILE: &str = "benches/count/counted.toml";

#[derive(clap::Parser)]
struct Args {
    /// Write the counts to the file, to compare later runs with.
    #[arg(long)]
    update: bool,
    /// What this program is when it starts itself once more.
    #[arg(long, hide = true, value_enum, requires = "calls")]
    role: Option<Role>,
    #[arg(long, hide = true, value_enum)]
    calls: Option<Calls>,
    /// The number of calls.
    #[arg(long, hide = true, default_value_t = CALLS)]
    count: usize,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Role {
    /// The gateway, which prints its allocations at the end.
    Gateway,
    /// The caller and the origin.
    Others,
}

/// The cost of one call.
#[derive(Serialize, Deserialize)]
struct Cost {
    instructions: u64,
    allocations: u64,
}

#[derive(Serialize, Deserialize)]
struct Counted {
    hit: Cost,
    miss: Cost,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let (Some(role), Some(calls)) = (args.role, args.calls) {
        return match role {
            Role::Gateway => drive(calls, args.count),
            Role::Others => play::play(calls, args.count),
        };
    }
    let counted = Counted {
        hit: cost(Calls::Hits)?,
        miss: cost(Calls::Misses)?,
    };
    if args.update {
        let text = toml::to_string(&counted)?;
        return Ok(fs::write(
            FILE,
            format!("# What `cargo bench --bench count` counts for one call.\n\n{text}"),
        )?);
    }
    let before: Counted = toml::from_str(&fs::read_to_string(FILE)?)?;
    compare("hit", &counted.hit, &before.hit)?;
    compare("miss", &counted.miss, &before.miss)
}

fn compare(what: &str, now: &Cost, before: &Cost) -> anyhow::Result<()> {
    let most = (before.instructions as f64 * ALLOWED) as u64;
    ensure!(
        now.instructions <= most && now.allocations <= before.allocations,
        "a {what} takes more than {most} instructions or {} allocations. Make it cheaper again, \
         or say in the commit why it costs more, with: cargo bench --bench count -- --update",
        before.allocations,
    );
    Ok(())
}

/// Counts the cost of one call.
fn cost(calls: Calls) -> anyhow::Result<Cost> {
    let (once, twice) = (least(calls, CALLS)?, least(calls, 2 * CALLS)?);
    // Rounded: rare costs, such as a queue that grows, are not part of each call and may
    // fall into either run.
    let calls_more = CALLS as u64;
    let each = |once: u64, twice: u64| (twice.saturating_sub(once) + calls_more / 2) / calls_more;
    let cost = Cost {
        instructions: each(once.instructions, twice.instructions),
        allocations: each(once.allocations, twice.allocations),
    };
    let (instructions, allocations) = (cost.instructions, cost.allocations);
    println!("{calls:?}: {instructions} instructions, {allocations} allocations each");
    Ok(cost)
}

/// The least cost of several runs.
fn least(calls: Calls, count: usize) -> anyhow::Result<Cost> {
    let mut least = run(calls, count)?;
    for _ in 1..RUNS {
        let next = run(calls, count)?;
        least = Cost {
            instructions: least.instructions.min(next.instructions),
            allocations: least.allocations.min(next.allocations),
        };
    }
    Ok(least)
}

/// Counts one run.
fn run(calls: Calls, count: usize) -> anyhow::Result<Cost> {
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(play::arguments("gateway", calls, count))
        .output()
        .context("running valgrind; is it installed?")?;
    let told = String::from_utf8(ran.stderr)?;
    ensure!(ran.status.success(), "a run failed:\n{told}");
    let after = |text: &str, label: &str| -> Option<u64> {
        let (_, rest) = text.split_once(label)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    let out = String::from_utf8(ran.stdout)?;
    Ok(Cost {
        instructions: after(&told, "Collected :").context("valgrind without a count")?,
        allocations: after(&out, "allocations:").context("a run without a count")?,
    })
}

/// Serves the calls of one run, and prints the number of allocations.
fn drive(calls: Calls, count: usize) -> anyhow::Result<()> {
    // Valgrind does not follow child processes.
    let mut others = Command::new(env::current_exe()?)
        .args(play::arguments("others", calls, count))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut to, from) = (others.stdin.take(), others.stdout.take());
    let mut origin = String::new();
    BufReader::new(from.context("no output")?).read_line(&mut origin)?;
    let origin: SocketAddr = origin.trim().parse().context("the origin's address")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(async {
        let config = config(origin)?;
        let server = Server::start(config.server, config.admin, config.gateway).await?;
        let address = server.addresses().first().context("no listener")?;
        writeln!(to.as_mut().context("no input")?, "{address}")?;
        let (done, ended) = oneshot::channel();
        thread::spawn(move || done.send(others.wait()));
        anyhow::Ok(ended.await??)
    })?;
    ensure!(status.success(), "a call failed");
    println!("allocations: {}", ALLOCATOR.stats().allocations);
    Ok(())
}

fn config(origin: SocketAddr) -> anyhow::Result<Config> {
    let upstream = |region: Region| format!("[regions.{region}]\nupstream = 'http://{origin}'\n");
    let text = format!(
        "[server]\nlisteners = '127.0.0.1:0'\n[admin]\nenabled = false\n\
         [log]\nrequests = false\n[cache]\nttl = '1h'\n{}",
        Region::ALL.map(upstream).concat()
    );
    let sources = Sources {
        file: Some(("bench", &text)),
        environment: &[],
    };
    Config::load(&sources).map_err(|problems| anyhow::anyhow!("{problems:?}"))
}
