//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::lab::cli::figures::count;

/// The progress of one simulation.
pub(super) struct Progress {
    name: String,
    bar: ProgressBar,
}

impl Progress {
    /// Starts with a trace of this length.
    #[expect(clippy::print_stderr, reason = "progress without a terminal")]
    pub(super) fn start(name: &str, length: Duration) -> Self {
        let seconds = length.as_secs().max(1);
        let bar = ProgressBar::with_draw_target(Some(seconds), ProgressDrawTarget::stderr());
        // A style that does not parse leaves the plain bar.
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:20} {pos:>5}/{len} s") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(name.to_owned());
        if bar.is_hidden() {
            let length = humantime::format_duration(Duration::from_secs(seconds));
            eprintln!("{name}: simulating {length} ...");
        }
        Self {
            name: name.to_owned(),
            bar,
        }
    }

    /// Shows a moment of the trace.
    pub(super) fn show(&self, at: Duration) {
        self.bar.set_position(at.as_secs());
    }

    /// Replaces the bar by a line.
    #[expect(clippy::print_stderr, reason = "replaces the bar")]
    pub(super) fn finish(self, requests: u64) {
        let took = self.bar.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        eprintln!("{}: {} requests in {took:.1} s", self.name, count(requests));
    }
}
