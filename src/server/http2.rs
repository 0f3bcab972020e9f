//! HTTP/2 on one connection, from its preface to its end.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::activity::Activity;
use super::drive::drive;
use super::handler::{Handler, ListenerShared};
use super::idle::{ConnState, IdleMonitor, Protocol};
use super::stop::StopSignal;
use super::stream::ClientStream;
use super::timeouts::CLOSE_TIMEOUT;

/// Serves requests until the connection ends. It was accepted at `since`.
pub(super) async fn serve_http2<S, H>(
    stream: S,
    received: Bytes,
    shared: Arc<ListenerShared<H>>,
    since: Instant,
    mut stop: StopSignal,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let activity = Activity::new();
    let protocol = Protocol::Http2;
    let mut monitor = IdleMonitor::new(Arc::clone(&activity), shared.timeouts, protocol, since);
    let stream = ClientStream::new(stream, received, Arc::clone(&activity));
    let service = service_fn(|request| shared.respond(&activity, request));
    let connection = shared.http2.serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    match drive(connection.as_mut(), &mut monitor, &mut stop).await {
        None => {}
        Some(ConnState::Idle) => {
            tracing::debug!("closing an idle connection");
            // The client is told, but its reply is not waited for.
            connection.as_mut().graceful_shutdown();
            timeout(CLOSE_TIMEOUT, connection).await.ok();
        }
        Some(_) => {
            tracing::debug!("closing a connection: the client does not read its responses");
        }
    }
}
