//! `alexa-gateway serve`: runs the gateway until a signal stops it.
//!
//! SIGTERM and SIGINT stop it: it accepts no more connections, finishes the requests in
//! flight, and exits with 0. A second signal ends it at once. SIGHUP or a changed file
//! reloads the configuration.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::ServerState;
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

/// Serves until a signal stops it. Exits with 64 if the configuration is invalid.
///
/// # Errors
/// The gateway cannot be built, or an address cannot be bound.
pub(super) fn run(args: Args, environment: Vec<(String, String)>) -> anyhow::Result<ExitCode> {
    let origins = Origins {
        file: args.config,
        environment,
    };
    let config = match origins.load() {
        Ok(config) => config,
        Err(problems) => return Ok(bad_configuration(&problems)),
    };
    // Dropped last, so that lines logged while the runtime ends are written, too.
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
    // Before the log says that it runs, because an unhandled SIGHUP would end it.
    let reloads = origins.watch(move |loaded| reload(&gateway, &state, &mut current, loaded));
    for address in server.addresses() {
        tracing::info!(%address, "listening for skills");
    }
    if let Some(address) = server.admin_address() {
        tracing::info!(%address, "listening for operators: /-/status, /metrics");
    }
    let reason = tokio::select! {
        reason = stop() => reason,
        () = reloads => "configuration watch ended",
    };
    tracing::info!(reason, "stopping: finishing requests in flight");
    tokio::select! {
        closed = server.stop() => match closed {
            0 => tracing::info!("stopped"),
            closed => tracing::warn!(
                connections = closed,
                "stopped; the drain time-out closed connections with requests in flight"
            ),
        },
        reason = stop() => tracing::warn!(reason, "stopped at once by a second signal"),
    }
    Ok(())
}

/// Applies a new configuration. An invalid one changes nothing, and each of its problems
/// is logged.
fn reload(
    gateway: &Gateway,
    state: &ServerState,
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
            // Before the log line, so that the status page already agrees with it.
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

/// Warns of upstreams that get tokens unencrypted over a network.
fn warn_of_clear_text(config: &Config) {
    for region in crate::region::Region::ALL {
        let upstream = config.gateway.routes.upstream(region);
        if upstream.is_clear_text_off_host() {
            tracing::warn!(%upstream, "tokens are sent to this upstream unencrypted; use https");
        }
    }
}
