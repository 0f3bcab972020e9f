//! How the log is written: what of it, in which form, and (see [`lines`]) when it
//! reaches standard output.

mod lines;
#[cfg(all(test, feature = "lab"))]
mod replay;

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::time::SystemTime;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogPolicy};
use lines::Lines;

/// Starts the log. It is whole once what this returns is dropped.
///
/// # Errors
/// The thread that writes cannot be started.
pub(super) fn start(log: &LogPolicy) -> io::Result<impl Drop + use<>> {
    let filter = discreet(&log.level);
    let registry = tracing_subscriber::registry().with(filter);
    let format = log.format;
    let (lines, end) = Lines::to(io::stdout(), move |lines| missing(format, lines))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let started = match log.format {
        LogFormat::Pretty => registry
            .with(layer.with_ansi(io::stdout().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(layer.event_format(Json)).try_init(),
    };
    // Only a second subscriber in one process could fail, and then the first logs.
    started.ok();
    Ok(end)
}

/// The line that says that lines are missing.
fn missing(format: LogFormat, lines: u64) -> String {
    let now = humantime::format_rfc3339_micros(SystemTime::now());
    let (message, target) = (
        "the reader of the log was too slow; lines are missing",
        module_path!(),
    );
    match format {
        LogFormat::Pretty => format!("{now}  WARN {target}: {message} lines={lines}\n"),
        LogFormat::Json => format!(
            "{{\"timestamp\":\"{now}\",\"level\":\"WARN\",\"message\":\"{message}\",\
             \"lines\":{lines},\"target\":\"{target}\"}}\n"
        ),
    }
}

/// These print heads as they parse them, and with them ids and tokens.
const INDISCREET: [&str; 2] = ["h2", "hyper"];

/// A filter that lets through what was asked for, but nothing below a warning of
/// those who are [`INDISCREET`], however exactly a part of them is named.
fn discreet(asked: &Targets) -> Targets {
    let is_discreet = |target: &str| !INDISCREET.iter().any(|name| target.starts_with(name));
    let others = asked.iter().filter(|(target, _)| is_discreet(target));
    Targets::new()
        .with_default(asked.default_level().unwrap_or(LevelFilter::OFF))
        .with_targets(others.map(|(target, level)| (target.to_owned(), level)))
        .with_targets(INDISCREET.map(|name| (name, LevelFilter::WARN)))
}

/// One object a line: `timestamp`, `level`, the event's fields, `target`. There are no
/// spans in it, for there are none.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        let (level, target) = (event.metadata().level(), event.metadata().target());
        // Made whole before it is handed on, for `out` takes each piece by itself.
        let mut line = Vec::with_capacity(USUAL_BYTES);
        write!(line, r#"{{"timestamp":"{now}","level":"{level}""#).map_err(|_| fmt::Error)?;
        let mut fields = Fields {
            line: &mut line,
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.add("target", target);
        fields.result.map_err(|_| fmt::Error)?;
        line.extend_from_slice(b"}\n");
        out.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

/// Room for the line of a request.
const USUAL_BYTES: usize = 512;

/// Writes fields as members of an object.
struct Fields<'a> {
    line: &'a mut Vec<u8>,
    result: serde_json::Result<()>,
}

impl Fields<'_> {
    fn add(&mut self, name: &str, value: impl Serialize) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        if self.result.is_ok() {
            self.result = self.try_add(name, value);
        }
    }

    fn try_add(&mut self, name: &str, value: impl Serialize) -> serde_json::Result<()> {
        self.line.push(b',');
        serde_json::to_writer(&mut *self.line, name)?;
        self.line.push(b':');
        serde_json::to_writer(&mut *self.line, &value)
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    use serde_json::{Value, json};
    use tracing::Level;

    #[test]
    fn a_line_is_one_object_whatever_is_in_it() {
        let (written, out) = io::pipe().unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(Mutex::new(out))
            .event_format(Json);
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
                r#type = ?Some(1),
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
                "less": -1, "ms": 0.25, "yes": true, "shown": "\\", "type": "Some(1)",
                "target": module_path!(),
            })
        );
    }

    #[test]
    fn missing_lines_are_told_of_in_the_form_of_the_others() {
        let line: Value = serde_json::from_str(&missing(LogFormat::Json, 3)).unwrap();
        assert_eq!(
            (&line["level"], &line["lines"]),
            (&json!("WARN"), &json!(3))
        );
        assert!(missing(LogFormat::Pretty, 3).ends_with(" lines=3\n"));
    }

    #[test]
    fn no_level_makes_the_protocols_tell_what_they_parse() {
        for level in [
            "trace",
            "h2=trace",
            "info,h2::server=debug,hyper_util::rt=trace",
        ] {
            let filter = discreet(&level.parse().unwrap());
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
        let filter = discreet(&"warn,alexa_gateway::limits=debug".parse().unwrap());
        assert!(filter.would_enable("alexa_gateway::limits::lane", &Level::DEBUG));
        assert!(!filter.would_enable("alexa_gateway::server", &Level::INFO));
        let filter = discreet(&"alexa_gateway=info".parse().unwrap());
        assert!(!filter.would_enable("rustls", &Level::ERROR));
    }
}
