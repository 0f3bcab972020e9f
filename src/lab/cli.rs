//! The command lines of the laboratory: one file per subcommand.

pub mod demo;
mod figures;
pub mod mock;
pub mod simulate;
pub mod token;

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// The subcommands that a build without the laboratory lacks.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Mock(mock::Args),
    Simulate(Box<simulate::Args>),
    Token(token::Args),
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Every problem of the configurations that it was given.
    #[error("bad configuration: {}", .0.join("; "))]
    BadConfiguration(Vec<String>),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Runs one command to its end. SIGTERM and SIGINT end the demo and the mock.
///
/// # Errors
///
/// Fails when the command does.
pub(crate) fn run(command: Command, environment: Vec<(String, String)>) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => runtime()?.block_on(demo::run(args, stopped()))?,
        Command::Mock(args) => runtime()?.block_on(mock::run(args, stopped()))?,
        Command::Simulate(args) => simulate::run(*args, environment)?,
        Command::Token(args) => token::run(args),
    }
    Ok(())
}

fn runtime() -> anyhow::Result<Runtime> {
    Runtime::new().context("starting the runtime")
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
