//! The programs that are measured. All run on one core, on a loopback port, with a folder
//! of their own.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::bench::{Bench, Origin};
use crate::call::Calls;
use crate::load::{self, Until};
use crate::process::{Process, find, free_address};
use crate::settings::{self, Setup};
use crate::{nginx, usage};

/// A program that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Reads and writes a socket, nothing else.
    Floor,
    Gateway,
    Nginx,
    Varnish,
    Haproxy,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "socket floor",
            Self::Gateway => "gateway",
            Self::Nginx => "nginx",
            Self::Varnish => "Varnish",
            Self::Haproxy => "HAProxy",
        })
    }
}

impl Peer {
    /// Returns those that are installed; prints which are not.
    pub(crate) fn installed(bench: &Bench, peers: &[Self]) -> Vec<Self> {
        let (installed, missing): (Vec<_>, Vec<_>) =
            peers.iter().partition(|peer| peer.program().is_some());
        for peer in missing {
            bench.say(&format!("{peer} is not installed and is left out"));
        }
        installed
    }

    /// Where its program is, if it is installed.
    pub(crate) fn program(self) -> Option<PathBuf> {
        match self {
            Self::Floor => std::env::current_exe().ok(),
            Self::Gateway => Some(env!("CARGO_BIN_EXE_alexa-gateway").into()),
            Self::Nginx => nginx::program(),
            Self::Varnish => find("varnishd"),
            Self::Haproxy => find("haproxy"),
        }
    }

    /// Starts it on the core for servers, and waits until it accepts connections.
    ///
    /// # Errors
    /// It is not installed or does not start.
    pub(crate) async fn start(self, bench: &Bench, setup: Setup<'_>) -> anyhow::Result<Running> {
        self.launch(bench, setup)
            .await
            .with_context(|| format!("starting {self}"))
    }

    async fn launch(self, bench: &Bench, setup: Setup<'_>) -> anyhow::Result<Running> {
        let program = self.program().context("not installed")?;
        let address = free_address()?;
        let folder = bench.fresh_folder(&format!("{self:?}").to_lowercase())?;
        let log = folder.join("log");
        let config = folder.join("config");
        let path = |path: &Path| path.display().to_string();
        let args: Vec<String> = match self {
            Self::Nginx => {
                let http = settings::nginx_http(address, &setup, &folder);
                let core = Some(bench.options.server_core);
                let process = nginx::start(&program, &folder, &http, address, core).await?;
                return Ok(Running { process, address });
            }
            Self::Floor => vec![
                "--role".into(),
                "floor".into(),
                "--listen".into(),
                address.to_string(),
            ],
            Self::Gateway => {
                fs::write(&config, settings::gateway(address, &setup))?;
                vec!["serve".into(), "--config".into(), path(&config)]
            }
            Self::Varnish => {
                fs::write(&config, settings::varnish(&setup))?;
                // Each waiting connection holds a thread. Heads with a token fit the
                // default workspace.
                format!(
                    "-F|-j|none|-a|{address}|-f|{}|-n|{}|-s|malloc,1g|-p|thread_pools=1|\
                     -p|thread_pool_min=200|-p|thread_pool_max=5000|-p|thread_queue_limit=5000|\
                     -p|timeout_idle=300",
                    path(&config),
                    path(&folder.join("work"))
                )
                .split('|')
                .map(str::to_owned)
                .collect()
            }
            Self::Haproxy => {
                fs::write(&config, settings::haproxy(address, &setup))?;
                vec!["-db".into(), "-f".into(), path(&config)]
            }
        };
        let mut process = Process::start(&program, &args, Some(bench.options.server_core), &log)?;
        process.listening(address).await?;
        Ok(Running { process, address })
    }
}

/// The figures of [`Running::measure`].
pub(crate) const COLUMNS: [&str; 6] = [
    "CPU per request, µs",
    "requests/s",
    "p50, µs",
    "p99, µs",
    "p99.9, µs",
    "load and origin busy, %",
];

/// A peer that accepts connections, until it is dropped.
pub(crate) struct Running {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// Measures the figures of one round, named by [`COLUMNS`]. `origin` is the one on the
    /// core of the load, if there is one.
    ///
    /// # Errors
    /// A call failed.
    pub(crate) async fn measure(
        &self,
        bench: &Bench,
        calls: &Arc<Calls>,
        origin: Option<&Origin>,
    ) -> anyhow::Result<[f64; COLUMNS.len()]> {
        let busy = || {
            let own = usage::cpu_of(std::process::id())?;
            let origin = origin.map(Origin::cpu).transpose()?;
            anyhow::Ok(own + origin.unwrap_or_default())
        };
        load::closed(self.address, calls, Until::Elapsed(bench.options.time / 10)).await?;
        let (cpu, load) = (self.cpu()?, busy()?);
        let seen = load::closed(self.address, calls, Until::Elapsed(bench.options.time)).await?;
        let (cpu, load) = (self.cpu()? - cpu, busy()? - load);
        Ok([
            cpu / seen.calls() as f64,
            seen.rate(),
            seen.within(0.5),
            seen.within(0.99),
            seen.within(0.999),
            100.0 * load.as_secs_f64() / seen.lasted.as_secs_f64(),
        ])
    }

    /// The processor time of all its processes, in microseconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        Ok(1e6 * usage::cpu_of_tree(self.process.id())?.as_secs_f64())
    }

    /// The memory of all its processes, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        Ok(usage::memory_of_tree(self.process.id())? as f64)
    }
}
