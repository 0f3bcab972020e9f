//! When lines of the log reach their output.
//!
//! A thread writes them, so that no request waits for whoever reads the log. What tells
//! of a request is gathered, and is written within [`GATHERED_FOR`], or when
//! [`GATHERED_BYTES`] have come together: a write for each request costs as much as its
//! answer. Everything else is written as soon as the thread gets to it, after what came
//! before, so the order is kept.
//!
//! Nothing is lost at a stop, unless the reader stalls then for longer than [`PATIENCE`];
//! a process that is killed loses what was gathered. A reader that stalls before costs
//! the lines for which there is no room, [`MAX_BYTES`], and is told how many.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::record;

/// How long lines of requests are gathered at most.
const GATHERED_FOR: Duration = Duration::from_millis(100);

/// How much is gathered; another line, and it is written.
const GATHERED_BYTES: usize = 64 * 1024;

/// How much may wait for a reader that stalls.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How much of it is for what does not tell of a request.
const RESERVED_BYTES: usize = 256 * 1024;

/// How long a stop waits for the last lines to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where lines are gathered for a thread that writes them.
pub(super) struct Lines(Arc<Gathering>);

struct Gathering {
    state: Mutex<State>,
    /// Told when the thread has something to do, and when it has ended.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    gathered: Vec<u8>,
    /// Lines that found no room since the last write.
    dropped: u64,
    /// Something was gathered that may not wait.
    due: bool,
    stopping: bool,
    ended: bool,
}

impl State {
    fn is_due(&self) -> bool {
        self.due || self.stopping || self.gathered.len() >= GATHERED_BYTES
    }
}

impl Gathering {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Gathers lines for `out`, until the second is dropped. `missing` makes a line
    /// that says how many found no room.
    pub(super) fn to<W, M>(out: W, missing: M) -> io::Result<(Self, End)>
    where
        W: Write + Send + 'static,
        M: Fn(u64) -> String + Send + 'static,
    {
        let gathering = Arc::new(Gathering {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&gathering);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_in_time(&writer, out, missing))?;
        let end = End(Arc::clone(&gathering));
        Ok((Self(gathering), end))
    }
}

/// Writes what is gathered in time, until the end. It is gone also where it cannot be
/// written, for there is nowhere to say so.
fn write_in_time(gathering: &Gathering, mut out: impl Write, missing: impl Fn(u64) -> String) {
    let mut lines = Vec::new();
    loop {
        let is_idle = |state: &mut State| state.gathered.is_empty() && !state.stopping;
        let state = gathering.changed.wait_while(gathering.lock(), is_idle);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let may_wait = |state: &mut State| !state.is_due();
        let waited = gathering
            .changed
            .wait_timeout_while(state, GATHERED_FOR, may_wait);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut state.gathered, &mut lines);
        let dropped = mem::take(&mut state.dropped);
        state.due = false;
        if lines.is_empty() {
            // There was nothing to do but to stop.
            break;
        }
        drop(state);
        if dropped > 0 {
            lines.extend_from_slice(missing(dropped).as_bytes());
        }
        out.write_all(&lines).and_then(|()| out.flush()).ok();
        lines.clear();
        // A stall leaves no more behind than a busy moment does.
        lines.shrink_to(GATHERED_BYTES);
    }
    gathering.lock().ended = true;
    gathering.changed.notify_all();
}

/// Has the rest written when it is dropped. Nothing is written after that.
pub(super) struct End(Arc<Gathering>);

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stopping = true;
        self.0.changed.notify_all();
        let is_writing = |state: &mut State| !state.ended;
        let waited = self
            .0
            .changed
            .wait_timeout_while(state, PATIENCE, is_writing);
        drop(waited);
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            gathering: &self.0,
            may_wait: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line {
            gathering: &self.0,
            may_wait: metadata.target() == record::TARGET,
        }
    }
}

/// Takes one line.
pub(super) struct Line<'a> {
    gathering: &'a Gathering,
    may_wait: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.gathering.lock();
        let room = match self.may_wait {
            true => MAX_BYTES - RESERVED_BYTES,
            false => MAX_BYTES,
        };
        if state.ended || state.gathered.len() + line.len() > room {
            state.dropped += 1;
            return Ok(line.len());
        }
        let was_due = state.is_due();
        let first = state.gathered.is_empty();
        state.gathered.extend_from_slice(line);
        state.due |= !self.may_wait;
        // Otherwise the thread has been told, and looks again when it has written.
        let tell = first || state.is_due() != was_due;
        drop(state);
        if tell {
            self.gathering.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use tracing_subscriber::layer::SubscriberExt as _;

    /// No step takes so long.
    const LONG: Duration = Duration::from_secs(20);

    /// Sends each write on, and waits until it is taken.
    struct Writes(mpsc::SyncSender<String>);

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

    /// Logs to a reader who takes a write after the other.
    fn logged(log: impl FnOnce(mpsc::Receiver<String>, End)) {
        let (send, writes) = mpsc::sync_channel(0);
        let missing = |lines| format!("missing={lines}\n");
        let (lines, end) = Lines::to(Writes(send), missing).unwrap();
        let layer = tracing_subscriber::fmt::layer().with_writer(lines);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || log(writes, end));
    }

    fn request() {
        tracing::info!(target: record::TARGET, "request");
    }

    #[test]
    fn lines_keep_their_order_and_those_of_requests_are_gathered() {
        logged(|writes, end| {
            request();
            request();
            tracing::info!("reloaded");
            request();
            let reader = thread::spawn(move || writes.iter().collect::<String>());
            drop(end);
            let text = reader.join().unwrap();
            let of_requests: Vec<_> = text.lines().map(|l| l.contains("::request")).collect();
            assert_eq!(of_requests, [true, true, false, true], "{text}");
        });
    }

    #[test]
    fn gathered_lines_are_written_in_time() {
        logged(|writes, _end| {
            request();
            let line = writes.recv_timeout(LONG).unwrap();
            assert_eq!(line.lines().count(), 1);
        });
    }

    #[test]
    fn a_reader_that_stalls_keeps_nobody_and_is_told_what_it_missed() {
        logged(|writes, end| {
            // Without a reader, the first write never ends.
            let line = "x".repeat(1024);
            let lines = 2 * MAX_BYTES / line.len();
            for _ in 0..lines {
                tracing::info!(target: record::TARGET, "{line}");
            }
            let reader = thread::spawn(move || writes.iter().collect::<String>());
            drop(end);
            let text = reader.join().unwrap();
            let came = text.lines().filter(|l| l.contains(&line)).count();
            assert!(
                (MAX_BYTES / line.len() / 2..lines).contains(&came),
                "{came}"
            );
            let missed = format!("missing={}", lines - came);
            assert_eq!(text.lines().last(), Some(&*missed));
        });
    }
}
