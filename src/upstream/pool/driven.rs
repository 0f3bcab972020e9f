//! One HTTP/1.1 connection, driven by whoever uses it.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body;
use hyper::client::conn::{TrySendError, http1};

use super::outgoing::Outgoing;
use super::{Name, Pool};
use crate::upstream::connector::Stream;

/// A connection and the way to send on it. Dropping it closes it.
pub(super) struct Driven {
    sender: http1::SendRequest<Outgoing>,
    /// Dropped as soon as it has ended: only then are those told that wait for it.
    connection: Link,
    origin: Arc<Name>,
}

/// The connection itself.
pub(super) type Link = Option<http1::Connection<Stream, Outgoing>>;

/// What came of sending a request.
pub(super) type Sent = Result<Response<body::Incoming>, TrySendError<Request<Outgoing>>>;

impl Driven {
    pub(super) fn new(
        sender: http1::SendRequest<Outgoing>,
        connection: http1::Connection<Stream, Outgoing>,
        origin: Arc<Name>,
    ) -> Self {
        Self {
            sender,
            connection: Some(connection),
            origin,
        }
    }

    /// Where it leads.
    pub(super) fn origin(&self) -> &Arc<Name> {
        &self.origin
    }

    /// Begins to send a request. The answer comes while the connection is
    /// [driven](drive), or an error, with the request if nothing of it was sent.
    pub(super) fn begin(
        &mut self,
        request: Request<Outgoing>,
    ) -> (impl Future<Output = Sent> + use<>, &mut Link) {
        let answer = self.sender.try_send_request(request);
        (answer, &mut self.connection)
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
pub(super) fn drive(connection: &mut Link, cx: &mut Context<'_>) {
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
    /// The connection, and where it goes back to.
    own: Option<(Box<Driven>, Weak<Pool>)>,
}

impl Incoming {
    pub(super) fn shared(body: body::Incoming) -> Self {
        Self { body, own: None }
    }

    pub(super) fn driven(body: body::Incoming, own: Box<Driven>, pool: Weak<Pool>) -> Self {
        let mut this = Self {
            body,
            own: Some((own, pool)),
        };
        if this.body.is_end_stream() {
            this.give_back();
        }
        this
    }

    fn give_back(&mut self) {
        let Some((mut own, pool)) = self.own.take() else {
            return;
        };
        if own.is_free()
            && let Some(pool) = pool.upgrade()
        {
            pool.give_back(own);
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
