//! The listener of one region: accepts connections, serves HTTP/1.1 and HTTP/2 on
//! them, owns their tasks and waits for them at the end.

use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use super::service;
use super::state::MockState;
use super::stream::{ResetSwitch, ResettableStream};
use crate::region::Region;

/// Binds an address; refuses any but a loopback address.
pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let why = format!("mock: {address} is not a loopback address");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| io::Error::new(error.kind(), format!("mock: binding {address}: {error}")))
}

/// Accepts connections until the mock closes, then waits for them to end.
pub(super) async fn listen(
    listener: TcpListener,
    region: Region,
    state: Arc<MockState>,
    mut closing: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    state.lock().counters.connected(region);
                    connections.spawn(serve(stream, region, Arc::clone(&state), closing.clone()));
                }
                // Most likely out of file descriptors: wait until some are free.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(ended) = connections.join_next() => resume_panic(ended),
            _ = closing.changed() => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        resume_panic(ended);
    }
}

/// Serves one connection to its end. The client notices its failures.
async fn serve(
    stream: TcpStream,
    region: Region,
    state: Arc<MockState>,
    mut closing: watch::Receiver<bool>,
) {
    let reset = ResetSwitch::default();
    let Ok(stream) = ResettableStream::new(stream, reset.clone()) else {
        return;
    };
    let service =
        service_fn(|request| service::serve(request, region, Arc::clone(&state), reset.clone()));
    // The executor runs HTTP/2 streams, which end with the connection.
    let server = auto::Builder::new(TokioExecutor::new());
    let connection = server.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closing.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Resumes the panic of a task: a defect of the mock has to fail the test instead of
/// looking like a fault.
pub(super) fn resume_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        resume_unwind(panic);
    }
}
