//! How the log is written: in which form, and when it reaches standard output.
//!
//! What tells of a request is gathered, and reaches the output within
//! [`GATHERED_FOR`], or when [`GATHERED_BYTES`] have come together: a write for each
//! request costs as much as its answer. Everything else is written at once, after
//! what was gathered before it, so the order is kept. Nothing is lost at a stop; a
//! process that is killed loses what was gathered.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::file::{Log, LogFormat};
use crate::record;

/// How long lines of requests are gathered at most.
const GATHERED_FOR: Duration = Duration::from_millis(100);

/// How much is gathered at most; another line, and it is written.
const GATHERED_BYTES: usize = 64 * 1024;

/// Starts the log. It is whole once what this returns is dropped.
///
/// # Errors
/// The thread that writes cannot be started.
pub(super) fn start(log: &Log) -> io::Result<impl Drop + use<>> {
    // The level was checked with the rest of the configuration.
    let filter = discreet(&log.level.parse().unwrap_or_default());
    let registry = tracing_subscriber::registry().with(filter);
    let (lines, end) = Lines::to(io::stdout())?;
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
pub(crate) struct Json;

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
        write!(out, r#"{{"timestamp":"{now}","level":"{level}""#)?;
        let mut fields = Fields {
            out,
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.add("target", target);
        fields.result?;
        fields.out.write_str("}\n")
    }
}

/// Writes fields as members of an object.
struct Fields<'a> {
    out: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn add(&mut self, name: &str, value: impl Serialize) {
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.result = self.result.and_then(|()| {
            self.out.write_char(',')?;
            self.json(name)?;
            self.out.write_char(':')?;
            self.json(value)
        });
    }

    fn json(&mut self, value: impl Serialize) -> fmt::Result {
        serde_json::to_writer(Text(&mut self.out), &value).map_err(|_| fmt::Error)
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
        self.add(field.name(), format!("{value:?}"));
    }
}

/// Takes the text that serde_json writes.
struct Text<'a, 'b>(&'a mut Writer<'b>);

impl Write for Text<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = str::from_utf8(bytes).map_err(io::Error::other)?;
        self.0.write_str(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where lines are gathered.
struct Lines<W>(Arc<Gathering<W>>);

struct Gathering<W> {
    state: Mutex<State<W>>,
    /// Told when the first line has come, and at the end.
    begun: Condvar,
}

struct State<W> {
    gathered: Vec<u8>,
    out: W,
    ended: bool,
}

impl<W: Write> State<W> {
    /// Writes what was gathered. It is gone also where it cannot be written, for
    /// there is nowhere to say so.
    fn write_out(&mut self) {
        if !self.gathered.is_empty() {
            let written = self.out.write_all(&self.gathered);
            written.and_then(|()| self.out.flush()).ok();
            self.gathered.clear();
        }
    }
}

impl<W> Gathering<W> {
    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write + Send + 'static> Lines<W> {
    /// Gathers lines for `out`, until the second is dropped.
    fn to(out: W) -> io::Result<(Self, End<W>)> {
        let gathering = Arc::new(Gathering {
            state: Mutex::new(State {
                gathered: Vec::new(),
                out,
                ended: false,
            }),
            begun: Condvar::new(),
        });
        let writer = Arc::clone(&gathering);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_in_time(&writer))?;
        let end = End(Arc::clone(&gathering));
        Ok((Self(gathering), end))
    }
}

/// Writes what is gathered in time, until the end.
fn write_in_time<W: Write>(gathering: &Gathering<W>) {
    loop {
        let idle = |state: &mut State<W>| state.gathered.is_empty() && !state.ended;
        let state = gathering.begun.wait_while(gathering.lock(), idle);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let going_on = |state: &mut State<W>| !state.ended;
        let waited = gathering
            .begun
            .wait_timeout_while(state, GATHERED_FOR, going_on);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.write_out();
        if state.ended {
            return;
        }
    }
}

/// Writes the rest when it is dropped, and what comes later at once.
struct End<W: Write>(Arc<Gathering<W>>);

impl<W: Write> Drop for End<W> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.write_out();
        drop(state);
        self.0.begun.notify_one();
    }
}

impl<'a, W: Write + 'a> MakeWriter<'a> for Lines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Line<'a, W> {
        Line {
            gathering: &self.0,
            gathered: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a, W> {
        Line {
            gathering: &self.0,
            gathered: metadata.target() == record::TARGET,
        }
    }
}

/// Takes one line.
struct Line<'a, W> {
    gathering: &'a Gathering<W>,
    /// Whether it may wait for others.
    gathered: bool,
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.gathering.lock();
        let first = state.gathered.is_empty();
        state.gathered.extend_from_slice(line);
        if !self.gathered || state.ended || state.gathered.len() >= GATHERED_BYTES {
            state.write_out();
        } else if first {
            drop(state);
            self.gathering.begun.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.gathering.lock().write_out();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use serde_json::{Value, json};
    use tracing::Level;

    /// Sends each write on.
    struct Writes(mpsc::Sender<String>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The writes that `log` leads to, each with a message `end` for when it was over.
    fn logged(log: impl FnOnce(&mpsc::Receiver<String>)) -> Vec<String> {
        let (send, writes) = mpsc::channel();
        let (lines, end) = Lines::to(Writes(send)).unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(lines)
            .event_format(Json);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || log(&writes));
        drop(end);
        writes.try_iter().collect()
    }

    #[test]
    fn a_line_is_one_object_whatever_is_in_it() {
        let writes = logged(|_| {
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
        let mut line: Value = serde_json::from_str(writes.concat().trim_end()).unwrap();
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

    #[test]
    fn lines_of_requests_are_gathered_and_keep_their_place() {
        let request = || tracing::info!(target: record::TARGET, "request");
        let writes = logged(|writes| {
            request();
            request();
            tracing::info!("reloaded");
            let written = writes.try_recv().unwrap();
            let targets: Vec<_> = written
                .lines()
                .map(|line| line.contains("::request"))
                .collect();
            assert_eq!(targets, [true, true, false]);
            request();
        });
        // The last one waited for the end, or until its time had come.
        assert_eq!(writes.concat().lines().count(), 1);
    }

    #[test]
    fn gathered_lines_are_written_in_time_and_when_there_are_many() {
        let request = || tracing::info!(target: record::TARGET, "request");
        logged(|writes| {
            request();
            let patience = Duration::from_secs(20);
            let line = writes.recv_timeout(patience).unwrap();
            assert_eq!(line.lines().count(), 1);
            for _ in 0..GATHERED_BYTES.div_ceil(line.len()) {
                request();
            }
            assert!(writes.try_recv().is_ok());
        });
    }
}
