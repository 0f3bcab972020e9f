//! The log of `serve`: which events are written, and in which form. When they reach
//! standard output is decided in [`writer`].

mod json;
#[cfg(all(test, feature = "lab"))]
mod replay;
mod writer;

use std::io::{self, IsTerminal as _};
use std::time::SystemTime;

use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogPolicy};
use json::JsonFormat;
use writer::LogWriter;

/// Starts the log. Dropping the returned guard writes what is still queued.
///
/// # Errors
/// The thread that writes cannot be started.
pub(super) fn start(policy: &LogPolicy) -> io::Result<impl Drop + use<>> {
    let registry = tracing_subscriber::registry().with(without_heads(&policy.level));
    let format = policy.format;
    let (writer, guard) = LogWriter::start(io::stdout(), move |lines| dropped(format, lines))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let started = match policy.format {
        LogFormat::Pretty => registry
            .with(layer.with_ansi(io::stdout().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(layer.event_format(JsonFormat)).try_init(),
    };
    // Fails only for a second log in one process; the first one stays.
    started.ok();
    Ok(guard)
}

fn now() -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_micros(SystemTime::now())
}

/// The line that reports how many lines were dropped. The writer thread cannot log it as
/// an event: that would queue it behind later lines.
fn dropped(format: LogFormat, lines: u64) -> String {
    let line = DroppedLine {
        timestamp: now().to_string(),
        level: "WARN",
        message: "log lines dropped: the reader of the log is too slow",
        lines,
        target: module_path!(),
    };
    match format {
        LogFormat::Pretty => format!(
            "{}  {} {}: {} lines={lines}\n",
            line.timestamp, line.level, line.target, line.message
        ),
        LogFormat::Json => {
            // A struct of strings and numbers always has a JSON form.
            serde_json::to_string(&line).unwrap_or_default() + "\n"
        }
    }
}

/// An event in the form of [`JsonFormat`].
#[derive(Serialize)]
struct DroppedLine {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    lines: u64,
    target: &'static str,
}

/// Targets that log message heads as they parse them, and with them ids and tokens.
const LOGS_HEADS: [&str; 2] = ["h2", "hyper"];

/// Limits the targets that log message heads to warnings, even where a part of them is
/// named with a lower level.
fn without_heads(level: &Targets) -> Targets {
    let logs_heads = |target: &str| LOGS_HEADS.iter().any(|name| target.starts_with(name));
    let others = level.iter().filter(|(target, _)| !logs_heads(target));
    Targets::new()
        .with_default(level.default_level().unwrap_or(LevelFilter::OFF))
        .with_targets(others.map(|(target, level)| (target.to_owned(), level)))
        .with_targets(LOGS_HEADS.map(|name| (name, LevelFilter::WARN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tracing::Level;

    #[test]
    fn a_json_line_is_one_object_for_values_of_every_type() {
        let (written, out) = io::pipe().unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(Arc::new(out))
            .event_format(JsonFormat);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(
                text = "a \"quote\"\n\u{1}é",
                count = 3_u64,
                less = -1,
                ms = 0.25,
                yes = true,
                nothing = None::<&str>,
                shown = %"\\",
                debug = ?Some(1),
                "told"
            );
        });
        let mut line: Value = serde_json::from_reader(written).unwrap();
        let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        humantime::parse_rfc3339(timestamp.as_str().unwrap()).unwrap();
        assert_eq!(
            line,
            json!({
                "level": "WARN", "message": "told", "text": "a \"quote\"\n\u{1}é", "count": 3,
                "less": -1, "ms": 0.25, "yes": true, "shown": "\\", "debug": "Some(1)",
                "target": module_path!(),
            })
        );
    }

    #[test]
    fn dropped_lines_are_reported_in_the_format_of_the_log() {
        let line: Value = serde_json::from_str(&dropped(LogFormat::Json, 3)).unwrap();
        assert_eq!(
            (&line["level"], &line["lines"]),
            (&json!("WARN"), &json!(3))
        );
        assert!(dropped(LogFormat::Pretty, 3).ends_with(" lines=3\n"));
    }

    #[test]
    fn no_level_makes_the_http_libraries_log_message_heads() {
        for level in [
            "trace",
            "h2=trace",
            "info,h2::server=debug,hyper_util::rt=trace",
        ] {
            let filter = without_heads(&level.parse().unwrap());
            for target in ["h2", "h2::server", "hyper::proto::h1", "hyper_util::rt"] {
                assert!(
                    !filter.would_enable(target, &Level::INFO),
                    "{level}: {target}"
                );
                assert!(
                    filter.would_enable(target, &Level::WARN),
                    "{level}: {target}"
                );
            }
        }
        let filter = without_heads(&"warn,alexa_gateway::limits=debug".parse().unwrap());
        assert!(filter.would_enable("alexa_gateway::limits::lane", &Level::DEBUG));
        assert!(!filter.would_enable("alexa_gateway::server", &Level::INFO));
        let filter = without_heads(&"alexa_gateway=info".parse().unwrap());
        assert!(!filter.would_enable("rustls", &Level::ERROR));
    }
}
