//! The gateway beside nginx, Varnish, HAProxy and a bare socket, in one run.
//!
//! Everything is on loopback: each server is pinned to one core, and the load, with
//! the origin, to another. Rounds alternate between the peers, so that other work of the
//! machine affects all of them; figures are medians, and ratios are taken
//! within a round. The load is this program itself: it varies tokens of real size and
//! checks every response. The load reports how busy its core was: above 95 %, throughput
//! is limited by the load.
//!
//! `benches/peers/run` installs what is needed, builds, and runs it;
//! `benches/peers/run --help` says what can be chosen.

mod bench;
mod call;
mod floor;
mod load;
mod nginx;
mod origin;
mod peer;
mod plot;
mod process;
mod relay;
mod scenarios;
mod settings;
mod table;
mod usage;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser as _, ValueEnum as _};
use rustix::thread::{CpuSet, sched_setaffinity};

use bench::{Bench, Options};
use peer::Peer;
use scenarios::Scenario;

/// Measures the gateway and its peers side by side.
#[derive(clap::Parser)]
struct Args {
    /// The scenarios to measure. Default: all.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// The number of rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each figure is measured.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// The number of entries that expire in the scenario expiry.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    expiring: u64,
    /// The core of the measured server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load and the origin.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Where the report is written.
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/peers"))]
    output: PathBuf,
    /// Passed by cargo to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// The role of a further process of this program.
    #[arg(long, hide = true, value_enum, requires = "listen")]
    role: Option<Role>,
    #[arg(long, hide = true)]
    listen: Option<SocketAddr>,
    #[arg(long, hide = true)]
    to: Option<SocketAddr>,
    #[arg(long, hide = true, default_value_t = 0)]
    delay_ms: u64,
    #[arg(long, hide = true)]
    tls: Option<PathBuf>,
}

/// A server that the bench starts as a further process.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Role {
    Floor,
    Origin,
    Relay,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // One thread: the kernel ends the peers with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let (Some(role), Some(listen)) = (args.role, args.listen) {
        let delay = Duration::from_millis(args.delay_ms);
        match role {
            Role::Floor => floor::serve(listen)?,
            Role::Origin => runtime.block_on(origin::serve(listen, delay, args.tls.as_deref()))?,
            Role::Relay => {
                let to = args.to.context("--role relay needs --to")?;
                runtime.block_on(relay::serve(listen, to, delay))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut cores = CpuSet::new();
    cores.set(args.load_core);
    sched_setaffinity(None, &cores).with_context(|| format!("core {}", args.load_core))?;
    runtime.block_on(run(args))
}

#[expect(clippy::print_stdout, reason = "the bench's output")]
async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bench = Bench::new(Options {
        folder: args.output.clone(),
        rounds: args.rounds,
        time: args.time,
        server_core: args.server_core,
        load_core: args.load_core,
        expiring: args.expiring,
    })?;
    if nginx::files() < FILES {
        bench.say(&format!(
            "only {} files may be open: nginx opens one for each hit then, and not all \
             connections fit; benches/peers/run, or ulimit -n {FILES}, gives it more",
            nginx::files()
        ));
    }
    let mut scenarios = args.scenarios;
    if scenarios.is_empty() {
        scenarios = Scenario::value_variants().to_vec();
    }
    let (mut tables, mut promises, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for scenario in scenarios {
        bench.say(&format!("{scenario:?}"));
        match scenario.run(&bench).await {
            Ok(outcome) => {
                for table in &outcome.tables {
                    println!("{}", table.markdown());
                }
                tables.extend(outcome.tables);
                promises.extend(outcome.promises);
            }
            Err(error) => {
                bench.say(&format!("{scenario:?} failed: {error:#}"));
                failed.push(format!("{scenario:?}: {error:#}"));
            }
        }
        bench.clear()?;
    }
    let promises = table::promises(&promises);
    println!("{promises}");
    let mut report = format!(
        "# The gateway and its peers\n\n{}\n\n{promises}",
        conditions(&bench)
    );
    for table in &tables {
        report.push('\n');
        report.push_str(&table.markdown());
    }
    for failure in &failed {
        report.push_str(&format!("\nNot measured: {failure}\n"));
    }
    let (text, picture) = (args.output.join("peers.md"), args.output.join("peers.svg"));
    fs::write(&text, report)?;
    plot::draw(&tables, &picture)?;
    bench.say(&format!(
        "written: {} and {}",
        text.display(),
        picture.display()
    ));
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How many files each peer needs open: twice the entries for nginx, which keeps a half
/// for its sockets.
const FILES: u64 = 65_536;

/// Describes what was measured, where and how.
fn conditions(bench: &Bench) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let processor = processor.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
    let system = rustix::system::uname();
    let versions = [
        (Peer::Nginx, "-v"),
        (Peer::Varnish, "-V"),
        (Peer::Haproxy, "-v"),
    ]
    .map(|(peer, flag)| version(peer, flag).unwrap_or_else(|| format!("{peer}: not installed")));
    format!(
        "Medians of {} rounds, with the range; {} s a figure. Servers on core {}, load and origin \
         on core {}, of {processor}; {} {}; {} open files. alexa-gateway {}; {}.",
        bench.options.rounds,
        bench.options.time.as_secs_f64(),
        bench.options.server_core,
        bench.options.load_core,
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        nginx::files(),
        env!("CARGO_PKG_VERSION"),
        versions.join("; "),
    )
}

/// The first line that a program prints about its version.
fn version(peer: Peer, flag: &str) -> Option<String> {
    let output = Command::new(peer.program()?).arg(flag).output().ok()?;
    let said = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    let said = String::from_utf8(said).ok()?;
    said.lines().next().map(str::to_owned)
}
