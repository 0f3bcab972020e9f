//! HTTP/1 on one connection, from the first byte of a request until it is idle.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::activity::Activity;
use super::drive::drive;
use super::handler::{Handler, ListenerShared};
use super::idle::{ConnState, IdleMonitor, Protocol};
use super::parking::{PARK_AFTER, Parked, park};
use super::stop::StopSignal;
use super::stream::ClientStream;
use super::timeouts::CLOSE_TIMEOUT;

/// An HTTP/1 connection that has become idle.
pub(super) struct IdleConnection<S> {
    pub(super) parked: Parked<S>,
    pub(super) idle_since: Instant,
}

/// Serves requests until the connection is idle, and then gives it back; `None` if it
/// has ended. The current head began at `since`.
pub(super) async fn serve_http1<S, H>(
    stream: S,
    received: Bytes,
    shared: Arc<ListenerShared<H>>,
    since: Instant,
    mut stop: StopSignal,
) -> Option<IdleConnection<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let activity = Activity::new();
    let protocol = Protocol::Http1 {
        idle_after: PARK_AFTER,
    };
    let mut monitor = IdleMonitor::new(Arc::clone(&activity), shared.timeouts, protocol, since);
    let stream = ClientStream::new(stream, received, Arc::clone(&activity));
    let service = service_fn(|request| shared.respond(&activity, request));
    let mut connection = shared.http1.serve_connection(TokioIo::new(stream), service);
    match drive(Pin::new(&mut connection), &mut monitor, &mut stop).await? {
        ConnState::Idle => {
            let parked = park(connection, shared.timeouts.drain).await?;
            Some(IdleConnection {
                parked,
                idle_since: monitor.idle_since(),
            })
        }
        ConnState::HeadTimedOut => {
            tracing::debug!("closing a connection: request head timed out");
            let (stream, _) = connection.into_parts().io.into_inner().into_parts();
            timeout(CLOSE_TIMEOUT, send_timeout_response(stream))
                .await
                .ok();
            None
        }
        ConnState::CheckAt(_) | ConnState::WriteTimedOut => {
            tracing::debug!("closing a connection: the client does not read its response");
            None
        }
    }
}

/// Sends a 408 by hand: hyper has no request to respond to.
async fn send_timeout_response(mut stream: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let response = format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\
         date: {date}\r\n\r\n"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}
