//! A socket as the HTTP library sees it: what was read before it got the socket comes
//! first, and [`Activity`] is told of what comes and of writing that has to wait.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// A stream whose first bytes have been read already.
pub(super) struct Wire<S> {
    stream: S,
    start: Bytes,
    activity: Arc<Activity>,
    /// Writing waits for the other side.
    waits: bool,
    /// How often it had to.
    times: u32,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, start: Bytes, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            start,
            activity,
            waits: false,
            times: 0,
        }
    }

    /// The stream, and what of its first bytes nobody has read.
    pub(super) fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.start)
    }

    fn note(&mut self, waits: bool) {
        if self.waits != waits {
            self.waits = waits;
            if waits {
                // 0 would say that it does not wait.
                self.times = self.times.checked_add(1).unwrap_or(1);
            }
            self.activity.blocked(if waits { self.times } else { 0 });
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.start.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let fits = self.start.len().min(buf.remaining());
            buf.put_slice(&self.start.split_to(fits));
        }
        // RFC 9112, 2.2: empty lines between requests are nothing of a request.
        let is_text = |byte: &u8| !matches!(byte, b'\r' | b'\n');
        if buf.filled()[before..].iter().any(is_text) {
            self.activity.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written.is_pending());
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
