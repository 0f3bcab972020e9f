//! Progress on standard error: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::lab::demo::CallerStats;

/// The progress of one run.
pub(super) struct Progress {
    name: &'static str,
    bar: ProgressBar,
}

impl Progress {
    /// Starts with this many requests to come.
    #[expect(clippy::print_stderr, reason = "progress without a terminal")]
    pub(super) fn start(name: &'static str, requests: usize) -> Self {
        let total = requests as u64;
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        // A style that does not parse leaves the plain bar.
        let style = ProgressStyle::with_template("{prefix:19} {bar:20} {pos:>4}/{len}  {msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(name);
        if bar.is_hidden() {
            eprintln!("{name}: {total} requests ...");
        }
        Self { name, bar }
    }

    /// Shows the figures so far.
    pub(super) fn show(&self, callers: &CallerStats) {
        self.bar.set_position(callers.requests);
        self.bar.set_message(message(callers));
    }

    /// Shows the final figures.
    #[expect(clippy::print_stderr, reason = "completes or replaces the bar")]
    pub(super) fn finish(self, callers: &CallerStats) {
        let hidden = self.bar.is_hidden();
        self.bar.finish();
        if hidden {
            eprintln!("{}: {}", self.name, message(callers));
        } else {
            // A finished bar leaves the cursor at its end.
            eprintln!();
        }
    }
}

fn message(callers: &CallerStats) -> String {
    let mut text = format!("{} × 200, {} × 429", callers.ok, callers.throttled);
    let bad = callers.wrong + callers.failed;
    if bad > 0 {
        text += &format!(", {bad} bad");
    }
    text
}
