//! The command `alexa-gateway`: flags in, exit code out. The only file that
//! reads flags or the environment, and the only one that ends the process.

use std::process::ExitCode;

use alexa_gateway::cli;
use clap::Parser as _;
use mimalloc::MiMalloc;

/// Entries of hundreds of bytes live long between buffers and tasks of thousands that do
/// not: glibc keeps 8 KB for each of a million entries, this some hundreds of bytes.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse(), std::env::vars_os())
}
