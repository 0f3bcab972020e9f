//! One connection, from its first byte to its end.
//!
//! hyper keeps 8 KiB to read into, 8 KiB to write into and room for a request for as
//! long as it has a connection. So it has one only while the connection talks: before
//! the first byte, and after a moment without a request, an HTTP/1 connection is
//! *parked*, with nothing but its socket, and a small task waits for more to come.
//!
//! A connection is parked only when both [`Watch`] and hyper say that nothing is in
//! flight; what hyper has read by then goes to it again when it gets the connection
//! back. So no request is lost, answered twice, or taken for the body of another.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Patience;
use super::activity::{Activity, Answering, Found, Protocol, Tracked, Watch};
use super::wire::Wire;
use crate::body::BoxError;

/// A request as it arrives. It is in flight until its body is dropped, too.
pub(super) type Arriving = Request<Tracked<Incoming>>;

/// What answers requests.
pub(super) trait Handle: Send + Sync + 'static {
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;
    type Answer: Future<Output = Response<Self::Body>> + Send + 'static;

    fn handle(&self, request: Arriving) -> Self::Answer;
}

impl<H, F, B> Handle for H
where
    H: Fn(Arriving) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Body = B;
    type Answer = F;

    fn handle(&self, request: Arriving) -> F {
        self(request)
    }
}

/// What the connections of one listener have in common.
pub(super) struct Terms<H> {
    patience: Patience,
    /// Answers a request.
    handle: H,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl<H> Terms<H> {
    pub(super) fn new(patience: Patience, handle: H) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // Heads are bounded by `Watch`, which needs no timer for each.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            .writev(false);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(patience.idle_timeout / 2))
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32);
        Self {
            patience,
            handle,
            http1,
            http2,
        }
    }
}

/// Serves one connection to its end. `slot` is dropped with it.
///
/// Dropping the future closes the connection.
pub(super) async fn serve<S, H>(
    mut stream: S,
    terms: Arc<Terms<H>>,
    mut stop: watch::Receiver<bool>,
    _slot: impl Send,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handle,
{
    // The first head has its time from here, and later ones from their first byte.
    let mut since = Instant::now();
    let mut deadline = since + terms.patience.request_head_timeout;
    let mut start = Bytes::new();
    let mut kept = false;
    loop {
        // The half of an empty line is nothing to talk about yet.
        if matches!(&*start, b"" | b"\r") {
            match parked(&mut stream, &start, kept, deadline, &mut stop).await {
                Some(first) => start = first,
                None => return,
            }
        }
        if kept {
            since = Instant::now();
        }
        let stop = stop.clone();
        if !kept && start == PREFACE {
            return Box::pin(multiplexed(stream, start, terms, since, stop)).await;
        }
        // Boxed, so that a task is small while its connection is parked.
        match Box::pin(talk(stream, start, Arc::clone(&terms), since, stop)).await {
            Some(quiet) => {
                deadline = quiet.since + terms.patience.idle_timeout;
                (stream, start, kept) = (quiet.stream, quiet.start, true);
            }
            None => return,
        }
    }
}

/// How an HTTP/2 connection starts: RFC 9113, 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Waits for the first bytes, of a connection or of the next request, after those that
/// have come: enough of them to know the protocol, unless it is known. None at the
/// deadline, at the stop, when nothing comes any more, or only empty lines do.
async fn parked<S: AsyncRead + Unpin>(
    stream: &mut S,
    start: &[u8],
    kept: bool,
    deadline: Instant,
    stop: &mut watch::Receiver<bool>,
) -> Option<Bytes> {
    let mut bytes = [0; PREFACE.len()];
    bytes[..start.len()].copy_from_slice(start);
    let reading = async {
        let (mut length, mut skipped) = (start.len(), 0);
        loop {
            let more = stream.read(&mut bytes[length..]).await?;
            length += more;
            // RFC 9112, 2.2: empty lines may come before a request, and are none.
            let empty = empty_lines(&bytes[..length]);
            bytes.copy_within(empty..length, 0);
            length -= empty;
            skipped += empty;
            // Whoever sends nothing else would keep us from looking at the time.
            if skipped > MAX_EMPTY_BYTES {
                return Ok(0);
            }
            let open = match &bytes[..length] {
                b"" | b"\r" => true,
                begun => !kept && length < PREFACE.len() && PREFACE.starts_with(begun),
            };
            if more == 0 || !open {
                return io::Result::Ok(length);
            }
        }
    };
    let length = tokio::select! {
        // A request that has come before the stop is answered.
        biased;
        read = reading => read.ok()?,
        () = stopped(stop) => return None,
        () = sleep_until(deadline) => {
            tracing::debug!("an idle connection was closed");
            return None;
        }
    };
    (length > 0).then(|| Bytes::copy_from_slice(&bytes[..length]))
}

/// As many bytes of empty lines before a request are enough.
const MAX_EMPTY_BYTES: usize = 1024;

/// How many of these bytes are empty lines; a CR is one only before its LF.
fn empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\n").or(rest.strip_prefix(b"\r\n")) {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// Completes when the server stops, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|&stop| stop).await.ok();
}

/// A connection that hyper has given back.
struct Quiet<S> {
    stream: S,
    /// What came of the next request.
    start: Bytes,
    /// When the last request was over.
    since: Instant,
}

/// Lets hyper speak HTTP/1 until the connection ends, or is quiet.
async fn talk<S, H>(
    stream: S,
    start: Bytes,
    terms: Arc<Terms<H>>,
    since: Instant,
    mut stop: watch::Receiver<bool>,
) -> Option<Quiet<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handle,
{
    let activity = Activity::new();
    let protocol = Protocol::Http1(PARK_AFTER);
    let mut watch = Watch::new(Arc::clone(&activity), terms.patience, protocol, since);
    let wire = Wire::new(stream, start, Arc::clone(&activity));
    let service = service_fn(|request| answer(&activity, &terms.handle, request));
    let mut connection = terms.http1.serve_connection(TokioIo::new(wire), service);
    match drive(Pin::new(&mut connection), &mut watch, &mut stop).await? {
        Found::Idle => {}
        Found::SlowHead => {
            tracing::debug!("a request head took too long");
            let (mut stream, _) = connection.into_parts().io.into_inner().into_parts();
            let date = httpdate::fmt_http_date(SystemTime::now());
            let answer = format!(
                "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\
                 date: {date}\r\n\r\n"
            );
            let farewell = async {
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            };
            timeout(FAREWELL, farewell).await.ok();
            return None;
        }
        Found::Later(_) | Found::Unread => {
            tracing::debug!("a client took nothing of its answer");
            return None;
        }
    }
    // hyper has the last word: it is done at once if nothing is in flight.
    Pin::new(&mut connection).graceful_shutdown();
    let mut last = Box::pin(connection.without_shutdown());
    let parts = match std::future::poll_fn(|cx| Poll::Ready(last.as_mut().poll(cx))).await {
        Poll::Ready(parts) => parts.ok()?,
        Poll::Pending => {
            tracing::debug!("a connection is closed after the request that is in flight");
            timeout(terms.patience.drain_timeout, last).await.ok();
            return None;
        }
    };
    let (stream, unread) = parts.io.into_inner().into_parts();
    let read = &parts.read_buf[empty_lines(&parts.read_buf)..];
    Some(Quiet {
        stream,
        // Copied, for hyper's buffer is large, also when nothing is in it.
        start: [read, &unread].concat().into(),
        since: watch.idle_since(),
    })
}

/// Lets hyper speak HTTP/2 until the connection ends.
async fn multiplexed<S, H>(
    stream: S,
    start: Bytes,
    terms: Arc<Terms<H>>,
    since: Instant,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handle,
{
    let activity = Activity::new();
    let mut watch = Watch::new(
        Arc::clone(&activity),
        terms.patience,
        Protocol::Http2,
        since,
    );
    let wire = Wire::new(stream, start, Arc::clone(&activity));
    let service = service_fn(|request| answer(&activity, &terms.handle, request));
    let mut connection = pin!(terms.http2.serve_connection(TokioIo::new(wire), service));
    match drive(connection.as_mut(), &mut watch, &mut stop).await {
        None => {}
        Some(Found::Idle) => {
            // The other side is told, and not waited for.
            connection.as_mut().graceful_shutdown();
            timeout(FAREWELL, connection).await.ok();
            tracing::debug!("an idle connection was closed");
        }
        Some(_) => tracing::debug!("a client took nothing of its answers"),
    }
}

/// Has a request answered, and counts it.
fn answer<H: Handle>(
    activity: &Arc<Activity>,
    handle: &H,
    request: Request<Incoming>,
) -> Answering<H::Answer> {
    let active = activity.request();
    // Most requests have no body that could last.
    let lasts = !http_body::Body::is_end_stream(request.body());
    let request = request.map(|body| Tracked::new(body, lasts.then(|| activity.more())));
    Answering::new(handle.handle(request), active)
}

/// Drives a connection until it ends, then None, or until something is found that is for
/// the caller to act on. A stop is passed on.
async fn drive<C>(
    mut connection: Pin<&mut C>,
    watch: &mut Watch,
    stop: &mut watch::Receiver<bool>,
) -> Option<Found>
where
    C: GracefulConnection,
    C::Error: fmt::Display,
{
    let mut stopped = pin!(stopped(stop));
    let mut stopping = false;
    let mut tick = pin!(sleep_until(Instant::now() + PARK_AFTER));
    loop {
        tokio::select! {
            // What is found is true of what hyper has done with all that came before.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return None;
            }
            () = &mut stopped, if !stopping => {
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
            () = &mut tick => match watch.look(Instant::now()) {
                Found::Later(at) => tick.as_mut().reset(at),
                found => return Some(found),
            },
        }
    }
}

/// How long after a request an HTTP/1 connection is parked. To be parked and taken up
/// again costs some 12 µs, as much as a hit: the calls of one turn should come within
/// less, and a connection that is asked more often than this never pays. The longer it
/// is, the more new connections hold all of their memory at a time.
const PARK_AFTER: Duration = Duration::from_millis(250);

/// How long a connection that is to be closed has for its last words.
const FAREWELL: Duration = Duration::from_millis(500);

/// Room for a token of 8 KiB, and for everything else that skills send.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1000;

#[cfg(test)]
mod tests;
