//! The programs that are measured, started in the same way: on one core, with a
//! folder of their own, on a port of loopback.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::bench::Bench;
use crate::process::{Process, find, free_address};
use crate::{nginx, settings, usage};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A socket that is read and written, and nothing else.
    Floor,
    Gateway,
    Nginx,
    Varnish,
    Haproxy,
}

/// Where a peer's calls go.
#[derive(Clone, Copy)]
pub(crate) enum Upstream<'a> {
    Plain(SocketAddr),
    /// With the folder of the authority that it trusts.
    Tls(SocketAddr, &'a Path),
}

impl Upstream<'_> {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Plain(address) | Self::Tls(address, _) => *address,
        }
    }
}

/// What a peer is to do.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) upstream: Upstream<'a>,
    /// Whether answers are kept. The gateway's are in any case.
    pub(crate) caching: bool,
    pub(crate) access_log: bool,
    /// How many answers must fit.
    pub(crate) entries: u64,
}

impl<'a> Setup<'a> {
    /// A cache in front of this origin.
    pub(crate) fn cache(upstream: Upstream<'a>) -> Self {
        Self {
            upstream,
            caching: true,
            access_log: false,
            entries: 0,
        }
    }

    /// A proxy in front of this origin.
    pub(crate) fn proxy(upstream: Upstream<'a>) -> Self {
        Self {
            caching: false,
            ..Self::cache(upstream)
        }
    }
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
                let core = Some(bench.server_core);
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
                // As many threads as connections, for each holds one while it waits;
                // heads with a token fit the workspace as it is.
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
        let mut process = Process::start(&program, &args, Some(bench.server_core), &log)?;
        process.listening(address).await?;
        Ok(Running { process, address })
    }
}

/// A peer that accepts connections, until it is dropped.
pub(crate) struct Running {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Running {
    /// The processor time of all its processes, in microseconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        Ok(1e6 * usage::cpu_of_tree(self.process.id())?.as_secs_f64())
    }

    /// The memory of all its processes, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        Ok(usage::memory_of_tree(self.process.id())? as f64)
    }
}
