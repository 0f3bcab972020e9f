//! Reading the configuration again, when the file changes or SIGHUP comes.
//!
//! The directory is watched rather than the file, for editors and ConfigMaps
//! replace files by rename or symbolic link. What the events say does not matter:
//! after each burst of them the file is read, and if its text is another, it is
//! loaded. What becomes of it is the caller's to decide.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Config;
use super::layers::{Origin, Problem, Sources};

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The process's environment as it was at the start.
    pub environment: Vec<(String, String)>,
}

impl Origins {
    /// Reads the file and loads all layers.
    ///
    /// # Errors
    /// Every problem there is; also that the file cannot be read.
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

    /// Loads again at every SIGHUP and whenever the file's text has changed, and
    /// hands the result to `apply`. It watches from the call on, not from the first
    /// poll, and until it is dropped. Must be called within a runtime.
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
                    // A writer may be in the middle of it.
                    sleep(SETTLE).await;
                    while changed.try_recv().is_ok() {}
                }
                match self.read() {
                    Ok(text) if !asked && text == current => {}
                    Ok(text) => {
                        apply(self.load_text(text.as_deref()));
                        current = text;
                    }
                    // Between a removal and a rename there is no file; only a person
                    // who asks wants to hear of that.
                    Err(problem) if asked => apply(Err(vec![problem])),
                    Err(_) => {}
                }
            }
        }
    }
}

/// How long a file is given to be written whole.
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
            // A full channel already says that there is something to look at.
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
