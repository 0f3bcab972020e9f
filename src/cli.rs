//! The command line: what can be said, and where each subcommand lives.

pub mod mock;
pub mod token;

use std::ffi::OsString;
use std::process::ExitCode;

/// A gateway between skill backends and the Alexa APIs.
#[derive(Debug, clap::Parser)]
#[command(name = "alexa-gateway", version, about)]
pub struct Cli {}

/// Runs one command to its end.
pub fn run(_cli: Cli, _environment: impl Iterator<Item = (OsString, OsString)>) -> ExitCode {
    ExitCode::SUCCESS
}
