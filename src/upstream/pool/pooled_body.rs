//! The body of a response from a pooled connection.

use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::http1_conn::Http1Conn;
use super::registry::Registry;

/// A response body. Reading it drives its HTTP/1.1 connection, which returns to the pool
/// with the last frame; dropping it earlier closes the connection or resets the stream.
pub struct PooledBody {
    body: Incoming,
    http1: Option<Lease>,
}

/// The connection that a body is read from, and the pool that it returns to.
struct Lease {
    connection: Box<Http1Conn>,
    registry: Weak<Registry>,
}

impl PooledBody {
    pub(super) fn http2(body: Incoming) -> Self {
        Self { body, http1: None }
    }

    pub(super) fn http1(
        body: Incoming,
        connection: Box<Http1Conn>,
        registry: Weak<Registry>,
    ) -> Self {
        let lease = Lease {
            connection,
            registry,
        };
        let mut this = Self {
            body,
            http1: Some(lease),
        };
        if this.body.is_end_stream() {
            this.give_back();
        }
        this
    }

    fn give_back(&mut self) {
        let Some(mut lease) = self.http1.take() else {
            return;
        };
        if lease.connection.is_reusable()
            && let Some(registry) = lease.registry.upgrade()
        {
            registry.give_back(lease.connection);
        }
    }
}

impl http_body::Body for PooledBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(lease) = &mut this.http1
        {
            // The poll above told the connection that a frame is wanted.
            lease.connection.drive(cx);
            polled = Pin::new(&mut this.body).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(Some(Ok(_))) if this.body.is_end_stream() => this.give_back(),
            Poll::Ready(None) => this.give_back(),
            Poll::Ready(Some(Err(_))) => this.http1 = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
