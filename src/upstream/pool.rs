//! Calls over pooled connections to the regional hosts.
//!
//! An HTTP/1.1 connection has no task: the call that uses it drives it, then the reader
//! of the response body, so a call costs no task switches. It returns to the pool once
//! the response was read to its end, else it is closed. An HTTP/2 connection has a task
//! and serves all calls to its origin.
//!
//! If the other side closes a kept connection, the next call or sweep notices. A request
//! of which nothing was sent on a kept connection is sent on another one. Once part of
//! it was sent, that would need a new permit, so the call fails.

mod http1_conn;
mod origin;
mod pooled_body;
mod registry;
mod request_body;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, Uri};
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connector::{Connector, Stream};
use super::failure::Failure;
use crate::body::{self, Body};
use http1_conn::{Http1Conn, drive};
pub(super) use pooled_body::PooledBody;
use registry::{Checkout, Connection, Http2Conn, Registry};
use request_body::RequestBody;

/// An HTTP/2 connection on which nothing arrives for `PING_AFTER` during a call gets a
/// PING, and is closed if no PONG arrives within `PONG_WITHIN`. Else a peer that vanished
/// would swallow every call, and these would keep the connection in use. All calls on it
/// end with it, also those that must not be repeated, so the limit leaves TCP the time
/// to recover from some lost segments (1.4 s for three, RFC 6298).
const PING_AFTER: Duration = Duration::from_secs(1);
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// The connections of one process, and how to open more.
pub(super) struct Pool {
    connector: Connector,
    registry: Arc<Registry>,
}

/// A connection that a call has got.
struct CheckedOut {
    connection: Connection,
    /// Whether it was used before, so that the other side may have closed it.
    reused: bool,
}

/// Boxed, because most calls find a connection and need no room for the future.
type Connecting = Pin<Box<dyn Future<Output = Result<CheckedOut, Failure>> + Send>>;

impl Pool {
    pub(super) fn new(
        connector: Connector,
        idle_timeout: Duration,
        max_idle_per_origin: usize,
    ) -> Self {
        Self {
            connector,
            registry: Arc::new(Registry::new(idle_timeout, max_idle_per_origin)),
        }
    }

    /// Makes one call. Takes the headers and the body out of the request. Cancelling it
    /// closes the connection or resets the stream.
    ///
    /// # Errors
    /// Why no response head was received.
    pub(super) async fn request(
        self: &Arc<Self>,
        request: &mut Request<Body>,
    ) -> Result<Response<PooledBody>, Failure> {
        loop {
            let CheckedOut { connection, reused } = match self.registry.checkout(request.uri()) {
                Checkout::Kept(connection) => CheckedOut {
                    connection,
                    reused: true,
                },
                checkout => self.connect(checkout, request.uri()).await?,
            };
            let mut error = match connection {
                Connection::Http1(mut connection) => {
                    let host = connection.host().clone();
                    request.headers_mut().insert(HOST, host);
                    let (sent, driver) = connection.send(outgoing(request, origin_form));
                    let mut sent = pin!(sent);
                    let sent = poll_fn(|cx| {
                        drive(driver, cx);
                        sent.as_mut().poll(cx)
                    });
                    match sent.await {
                        Ok(response) => {
                            let registry = Arc::downgrade(&self.registry);
                            return Ok(
                                response.map(|body| PooledBody::http1(body, connection, registry))
                            );
                        }
                        Err(error) => error,
                    }
                }
                Connection::Http2(mut sender) => {
                    request.headers_mut().remove(HOST);
                    match sender.try_send_request(outgoing(request, Uri::clone)).await {
                        Ok(response) => return Ok(response.map(PooledBody::http2)),
                        Err(error) => error,
                    }
                }
            };
            match error.take_message() {
                Some(unsent) if reused => {
                    let (parts, body) = unsent.into_parts();
                    *request.headers_mut() = parts.headers;
                    *request.body_mut() = body.0;
                }
                _ => return Err(Failure::awaiting_head(error.into_error())),
            }
        }
    }

    /// Opens a connection, or waits for one.
    fn connect(self: &Arc<Self>, mut checkout: Checkout, uri: &Uri) -> Connecting {
        let (this, uri) = (Arc::clone(self), uri.clone());
        let new = |connection| CheckedOut {
            connection,
            reused: false,
        };
        let kept = |connection| CheckedOut {
            connection,
            reused: true,
        };
        Box::pin(async move {
            loop {
                match checkout {
                    Checkout::Kept(connection) => return Ok(kept(connection)),
                    Checkout::Open(mut pending) => {
                        return tokio::select! {
                            biased;
                            Some(connection) = pending.given_back() => {
                                Ok(kept(Connection::Http1(connection)))
                            }
                            opened = this.open(&uri) => opened.map(new),
                        };
                    }
                    Checkout::OpenForAll(tell) => {
                        let opened = this.open(&uri).await;
                        tell.send_replace(Some(opened.as_ref().map(drop).map_err(Failure::clone)));
                        return opened.map(new);
                    }
                    Checkout::Wait(mut opening) => {
                        // An error means that the call which was opening it has left.
                        if let Ok(opened) = opening.wait_for(Option::is_some).await {
                            opened.clone().unwrap_or(Ok(()))?;
                        }
                    }
                }
                checkout = this.registry.checkout(&uri);
            }
        })
    }

    async fn open(&self, uri: &Uri) -> Result<Connection, Failure> {
        let stream = self.connector.connect(uri.clone()).await?;
        if stream.connected().is_negotiated_h2() {
            self.start_http2(uri, stream).await.map(Connection::Http2)
        } else {
            self.start_http1(uri, stream).await.map(Connection::Http1)
        }
    }

    async fn start_http1(&self, uri: &Uri, stream: Stream) -> Result<Box<Http1Conn>, Failure> {
        let handshake = http1::handshake(stream).await;
        let (sender, connection) = handshake.map_err(Failure::awaiting_head)?;
        Ok(self.registry.add_http1(uri, sender, connection))
    }

    async fn start_http2(&self, uri: &Uri, stream: Stream) -> Result<Http2Conn, Failure> {
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PONG_WITHIN)
            .handshake(stream);
        let (sender, connection) = handshake.await.map_err(Failure::awaiting_head)?;
        // It ends with the last sender or when the connection closes. Calls get its
        // error from their own streams.
        tokio::spawn(connection);
        self.registry.add_http2(uri, sender.clone());
        Ok(sender)
    }
}

/// The request to hand to a connection. Headers and body move into it; the URI stays, in
/// case it has to be sent again.
fn outgoing(request: &mut Request<Body>, form: impl FnOnce(&Uri) -> Uri) -> Request<RequestBody> {
    let body = mem::replace(request.body_mut(), body::whole(Bytes::new()));
    let mut outgoing = Request::new(RequestBody(body));
    *outgoing.headers_mut() = mem::take(request.headers_mut());
    *outgoing.method_mut() = request.method().clone();
    *outgoing.uri_mut() = form(request.uri());
    outgoing
}

/// The request target for an origin server (RFC 9112 §3.2.1).
fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query()
        .cloned()
        .map_or_else(Uri::default, Uri::from)
}
