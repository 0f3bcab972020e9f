//! A listening socket: accepts connections up to a limit, and drains them at a stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection;
use super::handler::{Handler, ListenerShared};
use super::stop::StopSignal;
use crate::admin::{OpenConnection, ServerState};

/// Listens at an address, with the longest backlog that the operating system allows. A
/// full backlog drops connections, and a client tries again only after a second.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of an earlier process may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(i32::MAX as u32)
}

/// A bound listener and how its connections are served.
pub(super) struct Listener<H> {
    pub(super) socket: TcpListener,
    pub(super) shared: ListenerShared<H>,
    /// One permit for each connection.
    pub(super) slots: Arc<Semaphore>,
    /// Counts the open connections.
    pub(super) state: Option<Arc<ServerState>>,
}

impl<H: Handler> Listener<H> {
    /// Accepts connections until the stop, and then drains them. Returns how many had to
    /// be closed with requests in flight.
    pub(super) async fn run(self, mut stop: StopSignal) -> usize {
        let shared = Arc::new(self.shared);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.socket, &self.slots) => accepted,
                () = stop.stopped() => break,
                Some(_) = connections.join_next() => continue,
            };
            let (stream, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Most likely out of file descriptors: others must close first.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY_DELAY).await;
                    continue;
                }
            };
            // If this fails, responses are delayed but correct.
            stream.set_nodelay(true).ok();
            let slot = Slot {
                _permit: permit,
                _open: self.state.as_ref().map(|state| state.connection()),
            };
            let shared = Arc::clone(&shared);
            connections.spawn(connection::serve(stream, shared, stop.clone(), slot));
        }
        drop(self.socket);
        let drained = async { while connections.join_next().await.is_some() {} };
        let drained = timeout(shared.timeouts.drain, drained).await.is_ok();
        let closed = if drained { 0 } else { connections.len() };
        connections.shutdown().await;
        closed
    }
}

const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// The place of one connection under the connection limit.
struct Slot {
    _permit: OwnedSemaphorePermit,
    _open: Option<OpenConnection>,
}

/// Accepts the next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}
