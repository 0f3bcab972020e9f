//! What all scenarios share: how long and where to measure, and the origins.

use std::cell::Cell;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::load::Connection;
use crate::process::{Process, free_address};
use crate::table::{Promise, Table};
use crate::{origin, usage};

/// The tables and promises of a scenario.
#[derive(Default)]
pub(crate) struct ScenarioResult {
    pub(crate) tables: Vec<Table>,
    pub(crate) promises: Vec<Promise>,
}

/// The options of a run.
#[derive(Clone)]
pub(crate) struct Options {
    /// The folder of the report and of temporary files.
    pub(crate) folder: PathBuf,
    pub(crate) rounds: usize,
    /// How long one figure is measured.
    pub(crate) time: Duration,
    pub(crate) server_core: usize,
    pub(crate) load_core: usize,
    /// How many entries expire together.
    pub(crate) expiring: u64,
}

/// A run of the bench.
pub(crate) struct Bench {
    pub(crate) options: Options,
    folders: Cell<usize>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What is left is below target/ and does no harm.
        fs::remove_dir_all(self.run()).ok();
    }
}

/// An origin or a relay in its own process.
pub(crate) struct Origin {
    process: Process,
    pub(crate) address: SocketAddr,
    /// How to connect to it, if it speaks TLS.
    tls: Option<TlsConnector>,
}

impl Origin {
    /// The processor time it has used.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        usage::cpu_of(self.process.id())
    }

    /// The number of requests it has received.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn requests(&self) -> anyhow::Result<u64> {
        let stream = TcpStream::connect(self.address).await?;
        let path = origin::COUNT_PATH;
        let body = match &self.tls {
            Some(tls) => {
                let stream = tls.connect(self.address.ip().into(), stream).await?;
                Connection::over(stream).get(path).await
            }
            None => Connection::over(stream).get(path).await,
        };
        let body = String::from_utf8(body.context("asking the origin")?)?;
        Ok(body.trim().parse()?)
    }

    /// Checks the number of requests since there were `before`.
    ///
    /// # Errors
    /// There were more, or fewer, or it does not answer.
    pub(crate) async fn asked(&self, before: u64, times: u64) -> anyhow::Result<()> {
        let asked = self.requests().await? - before;
        ensure!(
            asked == times,
            "the origin was asked {asked} times instead of {times}"
        );
        Ok(())
    }
}

impl Bench {
    /// Prepares a folder with certificates, and removes the folders of earlier runs that
    /// were killed.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn new(options: Options) -> anyhow::Result<Self> {
        let bench = Self {
            options,
            folders: Cell::new(0),
        };
        fs::create_dir_all(bench.certificates())?;
        for entry in fs::read_dir(&bench.options.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let run = name.to_str().and_then(|name| name.strip_prefix("run-"));
            if run.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        origin::write_certificates(&bench.certificates())?;
        Ok(bench)
    }

    /// The folder of the throw-away certificate authority.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.run().join("certificates")
    }

    /// The folder of this run alone, so that two runs do not share files.
    fn run(&self) -> PathBuf {
        self.options
            .folder
            .join(format!("run-{}", std::process::id()))
    }

    /// Creates a new folder.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn fresh_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.folders.set(self.folders.get() + 1);
        let folder = self
            .run()
            .join("started")
            .join(format!("{}-{name}", self.folders.get()));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Removes the files of peers, which must have ended.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.run().join("started")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Starts an origin that answers at once, on the core of the load.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn origin(&self) -> anyhow::Result<Origin> {
        self.role(&["--role", "floor"], self.options.load_core)
            .await
    }

    /// Starts an origin that answers after a delay.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn slow_origin(&self, delay: Duration, core: usize) -> anyhow::Result<Origin> {
        self.role(
            &[
                "--role",
                "origin",
                "--delay-ms",
                &delay.as_millis().to_string(),
            ],
            core,
        )
        .await
    }

    /// Starts an origin that speaks TLS.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn tls_origin(&self) -> anyhow::Result<Origin> {
        let certificates = self.certificates().display().to_string();
        let args = ["--role", "origin", "--tls", &certificates];
        let mut origin = self.role(&args, self.options.load_core).await?;
        origin.tls = Some(origin::connector(&self.certificates())?);
        Ok(origin)
    }

    /// Starts a relay that makes an origin look far away, one way.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn relay(&self, to: SocketAddr, delay: Duration) -> anyhow::Result<Origin> {
        let (to, delay) = (to.to_string(), delay.as_millis().to_string());
        self.role(
            &["--role", "relay", "--to", &to, "--delay-ms", &delay],
            self.options.load_core,
        )
        .await
    }

    async fn role(&self, args: &[&str], core: usize) -> anyhow::Result<Origin> {
        let address = free_address()?;
        let mut args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(["--listen".to_owned(), address.to_string()]);
        let log = self.fresh_folder("origin")?.join("log");
        let program = std::env::current_exe()?;
        let mut process = Process::start(&program, &args, Some(core), &log)?;
        process.listening(address).await?;
        Ok(Origin {
            process,
            address,
            tls: None,
        })
    }

    /// Prints progress.
    #[expect(clippy::print_stderr, reason = "progress is not the bench's output")]
    pub(crate) fn say(&self, what: &str) {
        eprintln!("peers: {what}");
    }
}
