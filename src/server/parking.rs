//! Parking: how an HTTP/1 connection waits for its next request in little memory.
//!
//! hyper holds two buffers of 8 KiB and the state of a request for as long as it has a
//! connection, some 40 KiB in all. So it has one only while there are requests. Before
//! the first byte, and [`PARK_AFTER`] the last request, the connection is *parked*: a
//! small task waits on the bare socket, at about 1.5 KiB. HTTP/2 is not parked after
//! its first bytes, because hyper must answer its pings.
//!
//! # Contract
//!
//! - **Holds:** the socket, the connection's slot, a deadline, and room for the 24 bytes
//!   that tell HTTP/1 from HTTP/2. No hyper, no buffer, no request.
//! - **Parks** only if both [`IdleMonitor`] and hyper say that nothing is in flight: no
//!   response is unsent, and no request body is unread. If hyper has a request after
//!   all, that is finished and the connection is closed.
//! - **Wakes** at the first byte of a request. A new connection wakes once its protocol
//!   is known. Empty lines wake nothing.
//! - **Loses nothing:** bytes that hyper has read go to the hyper that serves the next
//!   request. No request is lost, answered twice, or taken for the body of another.
//! - **Half-close:** if the client closes after the start of a request, hyper gets that
//!   start and decides; otherwise the connection ends.
//! - **Stop:** closed at once, unless bytes of a request had come before the stop.
//! - **Time-out:** closed without a response at the idle time-out, or, before the first
//!   request, at that of a request head. More than 1 KiB of empty lines closes it, too.
//!
//! [`IdleMonitor`]: super::idle::IdleMonitor

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use super::sniff::{PREFACE, Sniffed, empty_lines, sniff};
use super::stop::StopSignal;
use super::stream::ClientStream;
use crate::body::BoxError;

/// How long after a request an HTTP/1 connection is parked. Parking and waking cost
/// about 12 µs together, as much as a hit. The calls of one turn of a skill come within
/// this time, and a connection that is used more often never pays. A longer time would
/// let more new connections hold all of their memory at once.
pub(super) const PARK_AFTER: Duration = Duration::from_millis(250);

/// How many bytes of empty lines may come before a request.
pub(super) const MAX_EMPTY_BYTES: usize = 1024;

/// A connection that hyper has given back.
pub(super) struct Parked<S> {
    pub(super) stream: S,
    /// Bytes of the next request that hyper had read.
    pub(super) received: Bytes,
}

/// Takes an idle connection back from hyper. If hyper has a request in flight after
/// all, waits up to `drain_timeout` for its end; the connection is then closed.
pub(super) async fn park<S, V, B>(
    mut connection: http1::Connection<TokioIo<ClientStream<S>>, V>,
    drain_timeout: Duration,
) -> Option<Parked<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    // hyper ends at the first poll after this, if and only if nothing is in flight.
    Pin::new(&mut connection).graceful_shutdown();
    let mut ending = Box::pin(connection.without_shutdown());
    let parts = match poll_fn(|cx| Poll::Ready(ending.as_mut().poll(cx))).await {
        Poll::Ready(parts) => parts.ok()?,
        Poll::Pending => {
            tracing::debug!("closing a connection after its request in flight");
            timeout(drain_timeout, ending).await.ok();
            return None;
        }
    };
    let (stream, unread) = parts.io.into_inner().into_parts();
    let read = &parts.read_buf[empty_lines(&parts.read_buf)..];
    Some(Parked {
        stream,
        // Copied, because hyper's buffer is large even if it is empty.
        received: [read, &unread].concat().into(),
    })
}

/// Waits until the bytes received tell how to serve the next request, and returns them.
/// `received` has come already: nothing, or half of an empty line.
///
/// `None` if the connection is to be closed: at the deadline or a stop, after the end
/// of the stream, or because only empty lines come.
pub(super) async fn wait_for_bytes<S: AsyncRead + Unpin>(
    stream: &mut S,
    received: &[u8],
    is_first: bool,
    deadline: Instant,
    stop: &mut StopSignal,
) -> Option<Bytes> {
    let mut bytes = [0; PREFACE.len()];
    bytes[..received.len()].copy_from_slice(received);
    let reading = async {
        let (mut length, mut skipped) = (received.len(), 0);
        loop {
            let count = stream.read(&mut bytes[length..]).await?;
            length += count;
            let empty = empty_lines(&bytes[..length]);
            bytes.copy_within(empty..length, 0);
            length -= empty;
            skipped += empty;
            // While bytes keep coming, the deadline is never polled.
            if skipped > MAX_EMPTY_BYTES {
                return Ok(0);
            }
            if count == 0 || sniff(&bytes[..length], is_first) != Sniffed::Incomplete {
                return io::Result::Ok(length);
            }
        }
    };
    let length = tokio::select! {
        // A request that came before the stop is served.
        biased;
        read = reading => read.ok()?,
        () = stop.stopped() => return None,
        () = sleep_until(deadline) => {
            tracing::debug!("closing an idle connection");
            return None;
        }
    };
    (length > 0).then(|| Bytes::copy_from_slice(&bytes[..length]))
}
