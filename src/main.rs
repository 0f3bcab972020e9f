//! The command `alexa-gateway`: flags in, exit code out. The only file that
//! reads flags or the environment, and the only one that ends the process.

use std::process::ExitCode;

use alexa_gateway::cli;
use clap::Parser as _;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse(), std::env::vars_os())
}
