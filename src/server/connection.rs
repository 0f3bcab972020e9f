//! One connection, from its first byte to its end.
//!
//! It alternates between two states: parked, while it waits for a request (see
//! [`parking`](super::parking)), and served by hyper, while there are requests. A
//! connection that begins with HTTP/2's preface is served by hyper to its end.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::handler::{Handler, ListenerShared};
use super::http1::serve_http1;
use super::http2::serve_http2;
use super::parking::wait_for_bytes;
use super::sniff::{Sniffed, sniff};
use super::stop::StopSignal;

/// Serves one connection to its end. `slot` is dropped with it.
///
/// Dropping the future closes the connection.
pub(super) async fn serve<S, H>(
    mut stream: S,
    shared: Arc<ListenerShared<H>>,
    mut stop: StopSignal,
    _slot: impl Send,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    // The first head may take until a time after this; a later one, after its first byte.
    let mut since = Instant::now();
    let mut deadline = since + shared.timeouts.request_head;
    let mut received = Bytes::new();
    let mut is_first = true;
    loop {
        if sniff(&received, is_first) == Sniffed::Incomplete {
            let waiting = wait_for_bytes(&mut stream, &received, is_first, deadline, &mut stop);
            match waiting.await {
                Some(bytes) => received = bytes,
                None => return,
            }
        }
        if !is_first {
            since = Instant::now();
        }
        let stop = stop.clone();
        if sniff(&received, is_first) == Sniffed::Http2 {
            return Box::pin(serve_http2(stream, received, shared, since, stop)).await;
        }
        // Boxed, so that the task is small while the connection is parked.
        let serving = serve_http1(stream, received, Arc::clone(&shared), since, stop);
        match Box::pin(serving).await {
            Some(idle) => {
                deadline = idle.idle_since + shared.timeouts.idle;
                (stream, received) = (idle.parked.stream, idle.parked.received);
                is_first = false;
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
