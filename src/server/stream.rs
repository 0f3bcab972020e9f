//! A client's socket as hyper sees it.
//!
//! Replays the bytes that were read before hyper got the socket, and reports received
//! bytes and write stalls to [`Activity`]. The bytes themselves pass unchanged.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// A stream whose first bytes have been read already.
pub(super) struct ClientStream<S> {
    stream: S,
    /// Read already, and not yet replayed.
    replay: Bytes,
    activity: Arc<Activity>,
    stalled: bool,
    /// Number of write stalls so far.
    stalls: u32,
}

impl<S> ClientStream<S> {
    pub(super) fn new(stream: S, replay: Bytes, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            replay,
            activity,
            stalled: false,
            stalls: 0,
        }
    }

    /// The stream, and the bytes that have not been replayed.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.replay)
    }

    fn set_stalled(&mut self, stalled: bool) {
        if self.stalled != stalled {
            self.stalled = stalled;
            if stalled {
                // 0 means "not stalled", so the sequence skips it.
                self.stalls = self.stalls.checked_add(1).unwrap_or(1);
            }
            let stall = if stalled { self.stalls } else { 0 };
            self.activity.set_write_stall(stall);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.replay.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let length = self.replay.len().min(buf.remaining());
            buf.put_slice(&self.replay.split_to(length));
        }
        // Empty lines between requests do not begin one: RFC 9112, section 2.2.
        let begins_request = |byte: &u8| !matches!(byte, b'\r' | b'\n');
        if buf.filled()[before..].iter().any(begins_request) {
            self.activity.set_bytes_received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.set_stalled(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.set_stalled(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
