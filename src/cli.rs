//! The command line: what can be said, and where each subcommand lives.
//!
//! Exit codes: 0 done, 1 failed, 2 not a command line, 64 a bad configuration.

pub mod check;
pub(crate) mod log;
pub mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

#[cfg(feature = "lab")]
use crate::lab::cli::{demo, mock, simulate, token};

/// `EX_USAGE` of sysexits.h: a configuration that cannot be used.
pub(crate) const BAD_CONFIGURATION: u8 = 64;

/// A gateway between skill backends and the Alexa APIs.
#[derive(Debug, clap::Parser)]
#[command(name = "alexa-gateway", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    #[cfg(feature = "lab")]
    Demo(demo::Args),
    #[cfg(feature = "lab")]
    Mock(mock::Args),
    #[cfg(feature = "lab")]
    Simulate(Box<simulate::Args>),
    #[cfg(feature = "lab")]
    Token(token::Args),
}

/// Runs one command to its end.
#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that failed"
)]
pub fn run(cli: Cli, environment: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    let readable = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment = environment.filter_map(readable).collect();
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(args, environment),
        Command::Check(args) => Ok(check::run(args, environment)),
        #[cfg(feature = "lab")]
        Command::Demo(args) => runtime()
            .and_then(|runtime| runtime.block_on(demo::run(args, stopped())))
            .map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "lab")]
        Command::Mock(args) => runtime()
            .and_then(|runtime| runtime.block_on(mock::run(args, stopped())))
            .map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "lab")]
        Command::Simulate(args) => simulate::run(*args, environment),
        #[cfg(feature = "lab")]
        Command::Token(args) => token::run(args).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("alexa-gateway: {error:#}");
        ExitCode::FAILURE
    })
}

/// A runtime for as many cores as the process may use. For one, everything runs on
/// this thread: a sidecar of one core has nobody to hand work to, and pays for that
/// all the same.
fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build();
    runtime.context("starting the runtime")
}

/// Completes at SIGTERM or SIGINT.
async fn stopped() {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    if let (Ok(mut terminate), Ok(mut interrupt)) = signals {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
