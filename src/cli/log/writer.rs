//! When log lines reach their output.
//!
//! A thread writes them, so that no request waits for the reader of the log. Lines of
//! requests are written in batches, after [`BATCH_TIME`] or [`BATCH_BYTES`]: one write
//! for each would cost as much as a hit. Every other line is written at once, after
//! those before it, so the order is kept.
//!
//! If the reader stalls, up to [`MAX_QUEUED_BYTES`] are kept. Further lines are dropped,
//! and their number is reported. A stop writes everything, unless the reader stalls for
//! longer than [`STOP_TIMEOUT`]. A process that is killed loses the last batch.
//!
//! `tracing-appender` does less: it writes each line by itself, limits its queue in lines
//! instead of bytes, keeps no room for lines other than those of requests, and does not
//! report how many it dropped.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::record;

/// The longest time that lines of requests are kept for a batch.
const BATCH_TIME: Duration = Duration::from_millis(100);

/// The size at which a batch is written before that time.
const BATCH_BYTES: usize = 64 * 1024;

/// The most that is kept for a reader that stalls.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// The part of it that lines of requests may not use.
const RESERVED_BYTES: usize = 256 * 1024;

/// How long a stop waits for the last lines to be written.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Queues lines for a thread that writes them.
pub(super) struct LogWriter(Arc<LogQueue>);

struct LogQueue {
    state: Mutex<QueueState>,
    /// Notified when the thread has something to do, and when it has ended.
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    lines: Vec<u8>,
    /// Lines dropped since the last write.
    dropped: u64,
    /// Whether a line is queued that may not wait for a batch.
    urgent: bool,
    stopping: bool,
    ended: bool,
}

impl QueueState {
    fn is_due(&self) -> bool {
        self.urgent || self.stopping || self.lines.len() >= BATCH_BYTES
    }
}

impl LogWriter {
    /// Starts a thread that writes to `out` until the guard is dropped. `dropped` makes
    /// the line that reports a number of dropped lines.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start<W, D>(out: W, dropped: D) -> io::Result<(Self, FlushGuard)>
    where
        W: Write + Send + 'static,
        D: Fn(u64) -> String + Send + 'static,
    {
        let queue = Arc::new(LogQueue {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let guard = FlushGuard(Arc::clone(&queue));
        let writer = Self(Arc::clone(&queue));
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_batches(&queue, out, dropped))?;
        Ok((writer, guard))
    }
}

/// Writes batches until the stop. Errors are ignored: there is nowhere to report them.
fn write_batches(queue: &LogQueue, mut out: impl Write, report: impl Fn(u64) -> String) {
    let mut lines = Vec::new();
    loop {
        let mut state = queue.state.lock();
        queue.changed.wait_while(&mut state, |state| {
            state.lines.is_empty() && !state.stopping
        });
        queue
            .changed
            .wait_while_for(&mut state, |state| !state.is_due(), BATCH_TIME);
        mem::swap(&mut state.lines, &mut lines);
        let dropped = mem::take(&mut state.dropped);
        state.urgent = false;
        if lines.is_empty() {
            // Stopping, and nothing is left.
            state.ended = true;
            break;
        }
        drop(state);
        if dropped > 0 {
            lines.extend_from_slice(report(dropped).as_bytes());
        }
        out.write_all(&lines).and_then(|()| out.flush()).ok();
        lines.clear();
        // Gives back what a stall took.
        lines.shrink_to(BATCH_BYTES);
    }
    queue.changed.notify_all();
}

/// Writes what is queued when it is dropped, and ends the thread. Later lines are
/// dropped.
pub(super) struct FlushGuard(Arc<LogQueue>);

impl Drop for FlushGuard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.stopping = true;
        self.0.changed.notify_all();
        self.0
            .changed
            .wait_while_for(&mut state, |state| !state.ended, STOP_TIMEOUT);
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        LogLine {
            queue: &self.0,
            is_request: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LogLine<'a> {
        LogLine {
            queue: &self.0,
            is_request: metadata.target() == record::TARGET,
        }
    }
}

/// Queues one line.
pub(super) struct LogLine<'a> {
    queue: &'a LogQueue,
    is_request: bool,
}

impl Write for LogLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.queue.state.lock();
        let limit = if self.is_request {
            MAX_QUEUED_BYTES - RESERVED_BYTES
        } else {
            MAX_QUEUED_BYTES
        };
        if state.ended || state.lines.len() + line.len() > limit {
            state.dropped += 1;
            return Ok(line.len());
        }
        let was_due = state.is_due();
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        state.urgent |= !self.is_request;
        // In all other cases the thread has been notified already.
        let notify = was_empty || state.is_due() != was_due;
        drop(state);
        if notify {
            self.queue.changed.notify_all();
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

    /// Longer than any step takes.
    const LONG: Duration = Duration::from_secs(20);

    /// Sends each write to a channel, and waits until it is received.
    struct ChannelWriter(mpsc::SyncSender<String>);

    impl Write for ChannelWriter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.send(text).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Logs to a reader that receives one write at a time.
    fn logged(log: impl FnOnce(mpsc::Receiver<String>, FlushGuard)) {
        let (send, writes) = mpsc::sync_channel(0);
        let dropped = |lines| format!("dropped={lines}\n");
        let (writer, guard) = LogWriter::start(ChannelWriter(send), dropped).unwrap();
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || log(writes, guard));
    }

    fn request() {
        tracing::info!(target: record::TARGET, "request");
    }

    #[test]
    fn lines_keep_their_order_and_requests_are_batched() {
        logged(|writes, guard| {
            request();
            request();
            tracing::info!("reloaded");
            request();
            let reader = thread::spawn(move || writes.iter().collect::<String>());
            drop(guard);
            let text = reader.join().unwrap();
            let of_requests: Vec<_> = text.lines().map(|l| l.contains("::request")).collect();
            assert_eq!(of_requests, [true, true, false, true], "{text}");
        });
    }

    #[test]
    fn a_batch_is_written_in_time() {
        logged(|writes, _guard| {
            request();
            let line = writes.recv_timeout(LONG).unwrap();
            assert_eq!(line.lines().count(), 1);
        });
    }

    #[test]
    fn a_stalled_reader_delays_nobody_and_dropped_lines_are_counted() {
        logged(|writes, guard| {
            // Without a reader, the first write never ends.
            let line = "x".repeat(1024);
            let lines = 2 * MAX_QUEUED_BYTES / line.len();
            for _ in 0..lines {
                tracing::info!(target: record::TARGET, "{line}");
            }
            let reader = thread::spawn(move || writes.iter().collect::<String>());
            drop(guard);
            let text = reader.join().unwrap();
            let came = text.lines().filter(|l| l.contains(&line)).count();
            assert!(
                (MAX_QUEUED_BYTES / line.len() / 2..lines).contains(&came),
                "{came}"
            );
            let report = format!("dropped={}", lines - came);
            assert_eq!(text.lines().last(), Some(&*report));
        });
    }
}
