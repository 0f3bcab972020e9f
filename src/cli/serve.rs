//! `alexa-gateway serve`: the gateway, until it is told to stop.
//!
//! SIGTERM and SIGINT stop it: nothing more is accepted, what is in flight is
//! finished, and the exit code is 0. A second one ends it at once. SIGHUP or a
//! changed file reloads the configuration.

use std::convert::Infallible;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::admin::State;
use crate::config::Config;
use crate::config::layers::Problem;
use crate::config::reload::Origins;
use crate::gateway::Gateway;
use crate::server::Server;

use super::{bad_configuration, log};

/// Serve skills.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration file; without it, the defaults and the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Serves until a signal stops it. Exits with 64 if the configuration is bad.
///
/// # Errors
/// The gateway cannot be built or an address cannot be bound.
pub(super) fn run(args: Args, environment: Vec<(String, String)>) -> anyhow::Result<ExitCode> {
    let origins = Origins {
        file: args.config,
        environment,
    };
    let config = match origins.load() {
        Ok(config) => config,
        Err(problems) => return Ok(bad_configuration(&problems)),
    };
    // Dropped last: what is logged while the runtime ends is written as well.
    let _log = log::start(&config.log).context("starting the log")?;
    super::runtime()?.block_on(serve(config, origins))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config, origins: Origins) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    warn_of_clear_text(&config);
    let mut current = config.clone();
    let server = Server::start(config.server, config.admin, config.gateway).await?;
    let (gateway, state) = (Arc::clone(server.gateway()), Arc::clone(server.state()));
    // Before anybody is told that it runs: an unhandled SIGHUP would end it.
    let reloads = origins.watch(move |loaded| reload(&gateway, &state, &mut current, loaded));
    for address in server.addresses() {
        tracing::info!(%address, "listening for skills");
    }
    if let Some(address) = server.admin_address() {
        tracing::info!(%address, "listening for operators: /-/status, /metrics");
    }
    let reason = tokio::select! {
        reason = stop() => reason,
        () = reloads => "nothing to wait for",
        never = give_memory_back() => match never {},
    };
    tracing::info!(reason, "stopping: finishing what is in flight");
    tokio::select! {
        closed = server.stop() => match closed {
            0 => tracing::info!("stopped"),
            closed => tracing::warn!(connections = closed, "stopped; connections were closed at the drain time-out"),
        },
        reason = stop() => tracing::warn!(reason, "stopped at once"),
    }
    Ok(())
}

/// Lets go of memory that a busy time has left behind.
///
/// mimalloc returns freed memory to the system a second after it was freed, but looks
/// for it only when it frees a page: where nothing happens any more, it keeps all. So a
/// page is freed now and then. It is larger than what shares pages, and is never touched.
async fn give_memory_back() -> Infallible {
    loop {
        sleep(Duration::from_secs(1)).await;
        drop(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
}

/// Puts a new configuration in force, or tells all that is wrong with it and
/// changes nothing.
fn reload(
    gateway: &Gateway,
    state: &State,
    current: &mut Config,
    loaded: Result<Config, Vec<Problem>>,
) {
    gateway.metrics().reload(loaded.is_ok());
    match loaded {
        Ok(config) => {
            let needs_restart = config.needs_restart(current);
            warn_of_clear_text(&config);
            gateway.reconfigure(config.gateway.clone());
            *current = config;
            // Whoever reads the log finds the status page to agree with it.
            state.note_reload(true, Vec::new(), needs_restart.clone());
            tracing::info!(?needs_restart, "configuration reloaded");
        }
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            state.note_reload(false, problems.clone(), Vec::new());
            for problem in &problems {
                tracing::error!(problem, "configuration not reloaded");
            }
        }
    }
}

/// Tokens in the clear are fine on one host and nowhere else.
fn warn_of_clear_text(config: &Config) {
    for region in crate::region::Region::ALL {
        let upstream = config.gateway.routes.upstream(region);
        if upstream.is_clear_text_off_host() {
            tracing::warn!(%upstream, "tokens go to this upstream in the clear; use https");
        }
    }
}
