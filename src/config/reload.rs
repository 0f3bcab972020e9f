//! Reloads the configuration when the file changes and on SIGHUP.
//!
//! The directory is watched, not the file, because editors and ConfigMaps replace files
//! by a rename or a symbolic link. After each burst of events the file is read, and
//! loaded if its text has changed. The caller decides what to do with the result.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Config;
use super::layers::{Origin, Problem, Sources};

/// The sources of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The process's environment at the start.
    pub environment: Vec<(String, String)>,
}

impl Origins {
    /// Reads the file and loads all layers.
    ///
    /// # Errors
    /// All problems, or that the file cannot be read.
    pub fn load(&self) -> Result<Config, Vec<Problem>> {
        let text = self.read().map_err(|problem| vec![problem])?;
        self.load_text(text.as_deref())
    }

    fn load_text(&self, text: Option<&str>) -> Result<Config, Vec<Problem>> {
        let name = self
            .file
            .as_deref()
            .unwrap_or(Path::new(""))
            .display()
            .to_string();
        Config::load(&Sources {
            file: text.map(|text| (name.as_str(), text)),
            environment: &self.environment,
        })
    }

    fn read(&self) -> Result<Option<String>, Problem> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        fs::read_to_string(file).map(Some).map_err(|error| Problem {
            origin: Some(Origin::Line(file.display().to_string(), 0)),
            path: String::new(),
            message: format!("cannot read the file: {error}"),
        })
    }

    /// Loads the configuration on each SIGHUP and each change of the file's text, and
    /// passes the result to `apply`. Watching starts with the call, not with the first
    /// poll, and ends when the future is dropped. Must be called within a runtime.
    pub fn watch(
        self,
        mut apply: impl FnMut(Result<Config, Vec<Problem>>),
    ) -> impl Future<Output = ()> {
        let mut current = self.read().ok().flatten();
        let (changes, mut changed) = mpsc::channel(1);
        let watcher = self.file.as_deref().and_then(|file| watcher(file, changes));
        let mut hangup = signal(SignalKind::hangup()).ok();
        async move {
            let _watcher = watcher;
            loop {
                let asked = tokio::select! {
                    Some(()) = changed.recv() => false,
                    () = next(&mut hangup) => true,
                };
                if !asked {
                    // The file may not be complete yet.
                    sleep(SETTLE).await;
                    while changed.try_recv().is_ok() {}
                }
                match self.read() {
                    Ok(text) if !asked && text == current => {}
                    Ok(text) => {
                        apply(self.load_text(text.as_deref()));
                        current = text;
                    }
                    // Between a removal and a rename there is no file. That is worth
                    // reporting only to someone who has sent SIGHUP.
                    Err(problem) if asked => apply(Err(vec![problem])),
                    Err(_) => {}
                }
            }
        }
    }
}

/// The time a writer has to complete the file.
const SETTLE: Duration = Duration::from_millis(100);

async fn next(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

fn watcher(file: &Path, changes: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let notify = move |event: notify::Result<notify::Event>| {
        let read_only = event.as_ref().is_ok_and(|event| event.kind.is_access());
        if !read_only {
            // A full channel already announces a change.
            changes.try_send(()).ok();
        }
    };
    let watcher = notify::recommended_watcher(notify).and_then(|mut watcher| {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "the configuration file cannot be watched; send SIGHUP to reload it");
            None
        }
    }
}
