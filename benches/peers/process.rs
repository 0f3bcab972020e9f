//! Programs that a bench starts. Each ends when the bench no longer needs it, fails, or
//! is killed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::park_timeout;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Longer than any of them takes to start or to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running program. Dropping it ends it and waits for its end.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program that writes to the file `log`, on one core if one is given.
    ///
    /// The kernel ends it with the thread that started it, so that must be one
    /// which lives as long as the bench.
    ///
    /// # Errors
    /// It cannot be started, or its log cannot be written.
    pub(crate) fn start(
        program: &Path,
        args: &[String],
        core: Option<usize>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("writing {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]);
        if let Some(core) = core {
            command.args(["taskset", "-c", &core.to_string()]);
        }
        let child = command
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("starting setpriv (Debian: apt-get install util-linux)")?;
        let log = log.to_owned();
        Ok(Self { child, log })
    }

    /// The id of the program itself.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// It ended, or took too long; the end of its log says why.
    pub(crate) async fn listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let last = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "process {} ended with {status}: {}",
                    self.id(),
                    self.last_words()
                );
            }
            if Instant::now() > last {
                bail!("nothing listens at {address}: {}", self.last_words());
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Nobody else gets the id before the process is waited for.
        id.map(|id| kill_process(id, signal).ok());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        let last = Instant::now() + PATIENCE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > last {
                self.signal(Signal::KILL);
                self.child.wait().ok();
            }
            park_timeout(Duration::from_millis(2));
        }
    }
}

/// Returns a free loopback address.
///
/// # Errors
/// The machine has no free port.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Finds a program in `PATH` or in /usr/sbin.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
