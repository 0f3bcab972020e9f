//! The program itself, as a process with files, signals and a log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use super::client::Client;
use super::{eventually, within};

/// A running `alexa-gateway serve`; dropping it kills it.
pub(crate) struct Command {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// How much of the log has been looked at.
    read: Mutex<usize>,
    pub(crate) address: SocketAddr,
    admin_address: SocketAddr,
}

/// The program with arguments, free ports, and nothing else from the environment
/// of the tests that could configure it.
pub(crate) fn program(arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_alexa-gateway"));
    command.args(arguments).kill_on_drop(true);
    command
}

impl Command {
    /// Starts the program with a file, on free ports, and waits until it listens.
    pub(crate) async fn serve(file: &Path) -> Self {
        Self::serve_with(file, &[]).await
    }

    /// The same with further variables.
    pub(crate) async fn serve_with(file: &Path, environment: &[(&str, &str)]) -> Self {
        let mut program = program(&["serve", "--config", file.to_str().unwrap()]);
        program.envs(environment.iter().copied());
        Self::start(program).await
    }

    /// Starts a program that serves, on free ports, and waits until it listens.
    pub(crate) async fn start(mut program: tokio::process::Command) -> Self {
        let mut child = program
            .kill_on_drop(true)
            .env("ALEXA_GATEWAY__SERVER__LISTENERS", "127.0.0.1:0")
            .env("ALEXA_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0")
            .env("ALEXA_GATEWAY__LOG__FORMAT", "json")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().push(line);
            }
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut command = Self {
            child,
            log,
            read: Mutex::new(0),
            address: nowhere,
            admin_address: nowhere,
        };
        command.address = command.address_in("listening for skills").await;
        command.admin_address = command.address_in("listening for operators").await;
        command
    }

    async fn address_in(&self, words: &str) -> SocketAddr {
        let line = self.log_line(words, |line| line.contains(words)).await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn admin(&self) -> Client {
        Client::new(self.admin_address)
    }

    /// Waits for the next line that fits, and goes on after it the next time.
    pub(crate) async fn log_line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let mut found = String::new();
        eventually(what, || {
            let (log, mut read) = (self.log.lock(), self.read.lock());
            match log.iter().skip(*read).position(|line| fits(line)) {
                Some(at) => {
                    *read += at + 1;
                    found.clone_from(&log[*read - 1]);
                    true
                }
                None => false,
            }
        })
        .await;
        found
    }

    /// Everything that was logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().join("\n")
    }

    pub(crate) fn signal(&mut self, name: &str) {
        let pid = self.child.id().expect("it still runs").to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", name, &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end and answers its exit code.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        within("the program ends", self.child.wait())
            .await
            .unwrap()
            .code()
    }

    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.exit_code().await, Some(0), "{}", self.log());
    }
}

/// A directory of its own, removed when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        let name = format!("alexa-gateway-{:016x}", fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Replaces a file in one step, as editors and ConfigMaps do.
    pub(crate) fn replace(&self, name: &str, text: &str) {
        self.write("next", text);
        std::fs::rename(self.path("next"), self.path(name)).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
