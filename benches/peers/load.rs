//! The load: raw sockets, so that it costs less than what it measures.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Notify};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, timeout};

use crate::call::Calls;

/// How many connections make calls, where the scenario does not say.
pub(crate) const CONNECTIONS: usize = 64;

/// No answer takes so long; a peer that hangs must not hang the bench.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection that is kept.
pub(crate) struct Connection<S = TcpStream> {
    stream: S,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Opens a connection.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Makes calls over a stream that is open.
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            request: Vec::with_capacity(4096),
            answer: Vec::with_capacity(4096),
        }
    }

    /// Makes the next call and reads the whole answer.
    pub(crate) async fn call(&mut self, calls: &Calls) -> io::Result<()> {
        calls.write_next(&mut self.request);
        self.exchange().await.map(drop)
    }

    /// Sends a GET without a token and returns the body.
    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Vec<u8>> {
        self.request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        let body = self.exchange().await?;
        Ok(self.answer.split_off(body))
    }

    /// Sends what is in `request`; returns where the body of the answer starts.
    async fn exchange(&mut self) -> io::Result<usize> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let mut end = None;
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if end.is_none() {
                end = whole(&self.answer)?;
            }
            if let Some((body, end)) = end
                && self.answer.len() >= end
            {
                return Ok(body);
            }
        }
    }
}

/// Where the body of an answer starts and ends, once its head is there.
fn whole(answer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body) = head.parse(answer).map_err(io::Error::other)? else {
        return Ok(None);
    };
    if head.code != Some(200) {
        let text = String::from_utf8_lossy(answer).into_owned();
        return Err(io::Error::other(format!("not a 200: {text}")));
    }
    let length = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    match length {
        Some(length) => Ok(Some((body, body + length))),
        None => Err(io::Error::other("an answer without Content-Length")),
    }
}

/// What the callers saw.
pub(crate) struct Seen {
    /// Nanoseconds from when a call was due, or sent, to its whole answer.
    latency: Histogram<u64>,
    /// From the first call to the last answer.
    pub(crate) lasted: Duration,
}

impl Seen {
    /// How many calls were answered.
    pub(crate) fn calls(&self) -> u64 {
        self.latency.len()
    }

    /// How many calls were answered in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls() as f64 / self.lasted.as_secs_f64()
    }

    /// The time within which this share of the answers came, in microseconds.
    pub(crate) fn within(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e3
    }
}

/// When a closed loop ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Calls(u64),
    Elapsed(Duration),
}

/// Times as they come in, from any task.
#[derive(Clone)]
pub(crate) struct Times(Arc<Mutex<Histogram<u64>>>);

impl Times {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Up to a minute, which is beyond PATIENCE.
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self(Arc::new(Mutex::new(histogram))))
    }

    pub(crate) fn note(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(nanoseconds);
    }

    pub(crate) fn seen(self, lasted: Duration) -> Seen {
        let latency = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Seen { latency, lasted }
    }
}

/// Closed loop: each connection makes its next call when it has its answer.
///
/// # Errors
/// A call failed, or was not answered with 200.
pub(crate) async fn closed(
    address: SocketAddr,
    calls: &Arc<Calls>,
    until: Until,
) -> anyhow::Result<Seen> {
    let times = Times::new()?;
    let left = Arc::new(AtomicU64::new(match until {
        Until::Calls(calls) => calls,
        Until::Elapsed(_) => u64::MAX,
    }));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address).await?);
    }
    let start = Instant::now();
    let last = start
        + match until {
            Until::Calls(_) => Duration::from_secs(600),
            Until::Elapsed(time) => time,
        };
    let mut callers = JoinSet::new();
    for mut connection in connections {
        let (calls, times, left) = (Arc::clone(calls), times.clone(), Arc::clone(&left));
        callers.spawn(async move {
            let mut sent = Instant::now();
            while sent < last && take(&left) {
                connection.call(&calls).await?;
                let now = Instant::now();
                times.note(now - sent);
                sent = now;
            }
            io::Result::Ok(())
        });
    }
    let bound = last + PATIENCE - start;
    finish(callers, bound).await?;
    Ok(times.seen(start.elapsed()))
}

fn take(left: &AtomicU64) -> bool {
    let less = |left: u64| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// Waits for all callers, and fails with the first of them.
pub(crate) async fn finish<E>(
    mut callers: JoinSet<Result<(), E>>,
    bound: Duration,
) -> anyhow::Result<()>
where
    E: Into<anyhow::Error> + 'static,
{
    let all = async {
        while let Some(ended) = callers.join_next().await {
            ended?.map_err(Into::into)?;
        }
        anyhow::Ok(())
    };
    timeout(bound, all)
        .await
        .context("calls without an answer")?
}

/// Open loop: calls are due at random times, `rate` a second on average, whatever
/// became of those before. A time counts from when its call was due, so waiting
/// for a free connection counts as well.
///
/// # Errors
/// A call failed, or was not answered with 200.
pub(crate) async fn open(
    address: SocketAddr,
    calls: &Arc<Calls>,
    rate: f64,
    time: Duration,
) -> anyhow::Result<Seen> {
    let open = OpenLoop::connect(address, calls).await?;
    let start = Instant::now();
    open.run(rate, || start.elapsed() < time).await
}

/// An open loop whose connections are open before it begins.
pub(crate) struct OpenLoop {
    due: Arc<Due>,
    times: Times,
    callers: JoinSet<io::Result<()>>,
}

impl OpenLoop {
    /// Opens the connections and makes one call on each, so that none is closed for its
    /// silence before the loop begins.
    ///
    /// # Errors
    /// A call failed, or was not answered with 200.
    pub(crate) async fn connect(address: SocketAddr, calls: &Arc<Calls>) -> anyhow::Result<Self> {
        let times = Times::new()?;
        let due = Arc::new(Due::default());
        let mut callers = JoinSet::new();
        for mut connection in keep_open(address, calls, CONNECTIONS).await? {
            let (calls, times, due) = (Arc::clone(calls), times.clone(), Arc::clone(&due));
            callers.spawn(async move {
                while let Some(at) = due.next().await {
                    connection.call(&calls).await?;
                    times.note(at.elapsed());
                }
                io::Result::Ok(())
            });
        }
        Ok(Self {
            due,
            times,
            callers,
        })
    }

    /// Makes calls as [`open`] does for as long as `more` says so.
    ///
    /// # Errors
    /// A call failed, or was not answered with 200.
    pub(crate) async fn run(self, rate: f64, more: impl Fn() -> bool) -> anyhow::Result<Seen> {
        let start = Instant::now();
        let mut at = start;
        while more() {
            // The load has a core of its own: turning around is more exact than a timer.
            while Instant::now() < at {
                yield_now().await;
            }
            self.due.push(at);
            at += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rate);
        }
        self.due.end();
        finish(self.callers, PATIENCE).await?;
        Ok(self.times.seen(start.elapsed()))
    }
}

/// Calls that are due and that no connection has taken yet.
#[derive(Default)]
struct Due {
    calls: Mutex<VecDeque<Instant>>,
    ended: AtomicBool,
    more: Notify,
}

impl Due {
    fn push(&self, at: Instant) {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(at);
        self.more.notify_one();
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.more.notify_waiters();
    }

    async fn next(&self) -> Option<Instant> {
        loop {
            let call = self
                .calls
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            if call.is_some() {
                return call;
            }
            if self.ended.load(Ordering::Relaxed) {
                return None;
            }
            self.more.notified().await;
        }
    }
}

/// Everybody at once: all of these connections make their call together.
///
/// # Errors
/// A call failed, or was not answered with 200.
pub(crate) async fn together(
    connections: Vec<Connection>,
    calls: &Arc<Calls>,
) -> anyhow::Result<Seen> {
    let times = Times::new()?;
    let ready = Arc::new(Barrier::new(connections.len()));
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for mut connection in connections {
        let (calls, times, ready) = (Arc::clone(calls), times.clone(), Arc::clone(&ready));
        callers.spawn(async move {
            ready.wait().await;
            let sent = Instant::now();
            connection.call(&calls).await?;
            times.note(sent.elapsed());
            io::Result::Ok(())
        });
    }
    finish(callers, PATIENCE).await?;
    Ok(times.seen(start.elapsed()))
}

/// Connections that are opened at a time, so that no backlog overflows.
const OPENED_AT_ONCE: usize = 100;

/// Opens connections, makes one call on each, and keeps them.
///
/// # Errors
/// A call failed, or was not answered with 200.
pub(crate) async fn keep_open(
    address: SocketAddr,
    calls: &Arc<Calls>,
    count: usize,
) -> anyhow::Result<Vec<Connection>> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let mut opening = JoinSet::new();
        for _ in open.len()..count.min(open.len() + OPENED_AT_ONCE) {
            let calls = Arc::clone(calls);
            opening.spawn(timeout(PATIENCE, async move {
                let mut connection = Connection::open(address).await?;
                connection.call(&calls).await?;
                io::Result::Ok(connection)
            }));
        }
        for opened in opening.join_all().await {
            let number = open.len() + 1;
            let opened = opened.context("no answer").and_then(|opened| Ok(opened?));
            open.push(opened.with_context(|| format!("connection {number} of {count}"))?);
        }
    }
    Ok(open)
}
