//! The command line: one file per subcommand, and what their ends mean.
//!
//! Exit codes: 0 done, 1 failed, 2 not a valid command line, 64 a bad configuration.
//! The laboratory's subcommands are in `lab::cli`.

pub mod check;
mod log;
pub mod serve;

use std::ffi::OsString;
use std::fmt::Display;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::runtime::Runtime;

#[cfg(feature = "lab")]
use crate::lab::cli as lab;

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
    #[command(flatten)]
    Lab(lab::Command),
    #[cfg(not(feature = "lab"))]
    #[command(name = "demo", aliases = ["mock", "simulate", "token"], hide = true)]
    WithoutLab(WithoutLab),
}

/// A subcommand of the laboratory, with any arguments, in a build without it.
#[cfg(not(feature = "lab"))]
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
struct WithoutLab {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<OsString>,
}

/// Runs one command to its end.
#[expect(clippy::print_stderr, reason = "tells why the command failed")]
pub fn run(cli: Cli, environment: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    let readable = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment = environment.filter_map(readable).collect();
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(args, environment),
        Command::Check(args) => Ok(check::run(args, environment)),
        #[cfg(feature = "lab")]
        Command::Lab(command) => match lab::run(command, environment) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(lab::Failure::BadConfiguration(problems)) => Ok(bad_configuration(&problems)),
            Err(lab::Failure::Other(error)) => Err(error),
        },
        #[cfg(not(feature = "lab"))]
        Command::WithoutLab(_) => Ok(without_lab()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("alexa-gateway: {error:#}");
        ExitCode::FAILURE
    })
}

/// Creates a runtime for as many cores as the process may use. For one core,
/// everything runs on this thread: handing work to another would only cost time.
fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.enable_all().build();
    runtime.context("starting the runtime")
}

/// Prints every problem of a configuration; returns `EX_USAGE` of sysexits.h.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn bad_configuration(problems: &[impl Display]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    let s = if problems.len() == 1 { "" } else { "s" };
    eprintln!("{} problem{s}", problems.len());
    ExitCode::from(64)
}

#[cfg(not(feature = "lab"))]
#[expect(clippy::print_stderr, reason = "tells why the command failed")]
fn without_lab() -> ExitCode {
    eprintln!(
        "alexa-gateway: this build has no laboratory (demo, mock, simulate, token); \
         build it with the cargo feature `lab`, which is on by default"
    );
    ExitCode::from(2)
}
