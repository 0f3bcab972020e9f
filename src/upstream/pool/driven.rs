//! One HTTP/1.1 connection, driven by whoever uses it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Weak;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body;
use hyper::client::conn::{TrySendError, http1};

use super::Pool;
use super::outgoing::Outgoing;
use crate::upstream::connector::Stream;

/// A connection and the way to send on it. Dropping it closes it.
pub(super) struct Driven {
    sender: http1::SendRequest<Outgoing>,
    /// Dropped as soon as it has ended: only then are those told that wait for it.
    connection: Option<http1::Connection<Stream, Outgoing>>,
    /// What its origin is called in a head.
    host: HeaderValue,
}

impl Driven {
    pub(super) fn new(
        sender: http1::SendRequest<Outgoing>,
        connection: http1::Connection<Stream, Outgoing>,
        host: HeaderValue,
    ) -> Self {
        Self {
            sender,
            connection: Some(connection),
            host,
        }
    }

    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Sends a request and drives the connection until the head of the answer is there.
    ///
    /// # Errors
    /// With the request, if nothing of it was sent.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<body::Incoming>, TrySendError<Request<Outgoing>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            drive(connection, cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Whether the connection, which nobody uses, has ended.
    pub(super) fn is_over(&mut self) -> bool {
        drive(
            &mut self.connection,
            &mut Context::from_waker(Waker::noop()),
        );
        self.connection.is_none()
    }

    /// Whether another request may be sent: both messages are complete, and nobody
    /// has asked to close.
    fn is_free(&mut self) -> bool {
        // The connection may not yet have looked beyond the end of the answer.
        let is_free = |own: &Self| own.connection.is_some() && own.sender.is_ready();
        is_free(self) || (!self.is_over() && is_free(self))
    }
}

/// Moves what there is to move.
fn drive(connection: &mut Option<http1::Connection<Stream, Outgoing>>, cx: &mut Context<'_>) {
    let polled = connection
        .as_mut()
        .map(|connection| Pin::new(connection).poll(cx));
    // Why it ended is told to whoever waits for an answer, if anybody does.
    if polled.is_some_and(|polled| polled.is_ready()) {
        *connection = None;
    }
}

/// The body of an answer. Reading it drives its connection, which goes back to the pool
/// with the last piece.
pub struct Incoming {
    body: body::Incoming,
    own: Option<(Box<Driven>, Back)>,
}

/// Where a connection goes back to.
pub(super) type Back = (Weak<Pool>, Uri);

impl Incoming {
    pub(super) fn shared(body: body::Incoming) -> Self {
        Self { body, own: None }
    }

    pub(super) fn driven(body: body::Incoming, own: Box<Driven>, back: Back) -> Self {
        let mut this = Self {
            body,
            own: Some((own, back)),
        };
        if this.body.is_end_stream() {
            this.give_back();
        }
        this
    }

    fn give_back(&mut self) {
        let Some((mut own, (pool, uri))) = self.own.take() else {
            return;
        };
        if own.is_free()
            && let Some(pool) = pool.upgrade()
        {
            pool.give_back(&uri, own);
        }
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending()
            && let Some((own, _)) = &mut this.own
        {
            // A connection reads on when it knows that it is asked to.
            drive(&mut own.connection, cx);
            polled = Pin::new(&mut this.body).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(Some(Ok(_))) if this.body.is_end_stream() => this.give_back(),
            Poll::Ready(None) => this.give_back(),
            Poll::Ready(Some(Err(_))) => this.own = None,
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
