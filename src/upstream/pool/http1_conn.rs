//! One HTTP/1.1 connection. It has no task of its own: the call that uses it drives it.

use std::pin::Pin;
use std::task::{Context, Waker};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};

use super::request_body::RequestBody;
use crate::upstream::connector::Stream;

/// A connection and the handle to send on it. Dropping it closes it.
pub(super) struct Http1Conn {
    sender: http1::SendRequest<RequestBody>,
    /// `None` once it has ended: calls that wait for it are told when it is dropped.
    connection: Driver,
    origin: usize,
    host: HeaderValue,
}

/// The connection itself, to be [driven](drive).
pub(super) type Driver = Option<http1::Connection<Stream, RequestBody>>;

/// The outcome of sending a request: a response head, or an error, with the request if
/// none of it was sent.
pub(super) type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Http1Conn {
    /// A connection to the origin with this index and this value of `Host`.
    pub(super) fn new(
        sender: http1::SendRequest<RequestBody>,
        connection: http1::Connection<Stream, RequestBody>,
        origin: usize,
        host: HeaderValue,
    ) -> Self {
        Self {
            sender,
            connection: Some(connection),
            origin,
            host,
        }
    }

    /// The index of its origin.
    pub(super) fn origin(&self) -> usize {
        self.origin
    }

    /// The value of `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Starts to send a request. The outcome comes while the connection is [driven](drive).
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> (impl Future<Output = Sent> + use<>, &mut Driver) {
        let sent = self.sender.try_send_request(request);
        (sent, &mut self.connection)
    }

    /// Drives the connection until it has nothing to do.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, cx);
    }

    /// Whether this idle connection has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_none()
    }

    /// Whether another request may be sent: both messages are complete, and neither
    /// side wants to close.
    pub(super) fn is_reusable(&mut self) -> bool {
        let is_ready = |this: &Self| this.connection.is_some() && this.sender.is_ready();
        // The connection may not have looked beyond the end of the response yet.
        is_ready(self) || (!self.has_ended() && is_ready(self))
    }
}

/// Drives a connection until it has nothing to do.
pub(super) fn drive(connection: &mut Driver, cx: &mut Context<'_>) {
    let polled = connection
        .as_mut()
        .map(|connection| Pin::new(connection).poll(cx));
    // A call that waits for a response gets the reason from its sender.
    if polled.is_some_and(|polled| polled.is_ready()) {
        *connection = None;
    }
}
