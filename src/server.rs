//! Listeners, connections, and how they end.
//!
//! [`Server::start`] binds everything or nothing; [`Server::stop`] stops
//! accepting, lets requests in flight finish, and closes what is left after the
//! drain time-out. Connections are bounded in number, in the time that the head of a
//! request may take, and in idle time; an idle one costs little more than its socket.

mod activity;
mod connection;
mod wire;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::admin::{Admin, OpenConnection, State};
use crate::config::Config;
use crate::gateway::{BuildError, Gateway};
use connection::{Arriving, Handle, Terms};

/// A running gateway with its listeners. Dropping it closes everything at once.
pub struct Server {
    gateway: Arc<Gateway>,
    state: Arc<State>,
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<usize>,
    admin: JoinSet<usize>,
    sweeper: JoinHandle<()>,
}

/// Why a server does not start.
#[derive(Debug)]
pub enum StartError {
    /// The gateway cannot be built.
    Build(BuildError),
    /// This address cannot be listened at.
    Bind(SocketAddr, io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address} is in use; stop what listens there, or set server.listeners or admin.address"
                )
            }
            Self::Bind(address, error) => write!(f, "cannot listen at {address}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// How one kind of connection is treated.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Until the head of the first request is whole, and from the first byte of the head
    /// of a later one.
    request_head_timeout: Duration,
    /// Between requests.
    idle_timeout: Duration,
    /// While the client takes nothing of an answer.
    write_timeout: Duration,
    /// From the stop to the end.
    drain_timeout: Duration,
}

impl Server {
    /// Builds a gateway and opens its listeners.
    ///
    /// # Errors
    /// The gateway cannot be built or an address cannot be bound; then nothing
    /// is left open.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let bind = |address| bind(address).map_err(|error| StartError::Bind(address, error));
        let server = config.file.server.clone();
        let admin = config.file.admin;
        let patience = Patience {
            request_head_timeout: server.request_head_timeout,
            idle_timeout: server.idle_timeout,
            write_timeout: config.file.passthrough.body_idle_timeout,
            drain_timeout: server.drain_timeout,
        };
        let mut bound = Vec::new();
        for listener in &server.listeners {
            bound.push((bind(listener.address)?, listener.region));
        }
        let admin_listener = match admin.enabled {
            true => Some(bind(admin.address)?),
            false => None,
        };
        let gateway = Gateway::new(config).map_err(StartError::Build)?;
        let state = Arc::new(State::new());
        let (stop, _) = watch::channel(false);

        let connections = Arc::new(Semaphore::new(
            server.max_connections.get().min(Semaphore::MAX_PERMITS),
        ));
        let mut addresses = Vec::new();
        let mut listeners = JoinSet::new();
        for (listener, region) in bound {
            addresses.extend(listener.local_addr());
            let gateway = Arc::clone(&gateway);
            let handle = move |request: Arriving| {
                let gateway = Arc::clone(&gateway);
                async move { gateway.handle(request, region).await }
            };
            let state = Some(Arc::clone(&state));
            let slots = Arc::clone(&connections);
            listeners.spawn(accept(
                listener,
                patience,
                slots,
                state,
                handle,
                stop.subscribe(),
            ));
        }
        let mut admin_tasks = JoinSet::new();
        let admin_address = admin_listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        if let Some(listener) = admin_listener {
            let admin = Arc::new(Admin::new(Arc::clone(&gateway), Arc::clone(&state)));
            let handle = move |request: Arriving| {
                let admin = Arc::clone(&admin);
                async move {
                    admin
                        .handle(&request)
                        .map(http_body_util::Full::<Bytes>::new)
                }
            };
            let slots = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
            // The admin listener answers until the last request is through.
            let (open, closed) = watch::channel(false);
            admin_tasks.spawn(async move {
                let _open = open;
                accept(listener, patience, slots, None, handle, closed).await
            });
        }
        let sweeper = tokio::spawn(sweep(Arc::clone(&gateway)));
        state.set_ready(true);
        Ok(Self {
            gateway,
            state,
            addresses,
            admin_address,
            stop,
            listeners,
            admin: admin_tasks,
            sweeper,
        })
    }

    /// The gateway behind the listeners.
    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// What the admin listener tells beyond the gateway's own figures.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Where it listens, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin listener listens, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Stops accepting, waits for requests in flight, and closes the rest after
    /// the drain time-out. Answers how many connections had to be closed.
    pub async fn stop(mut self) -> usize {
        self.state.set_ready(false);
        self.stop.send_replace(true);
        let mut closed = 0;
        while let Some(ended) = self.listeners.join_next().await {
            closed += ended.unwrap_or_default();
        }
        self.admin.shutdown().await;
        closed
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Listens at an address. As many connections may wait to be accepted as the operating
/// system allows, for beyond that it drops what comes, and a client tries again only
/// after a second.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of the one before may still be closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(i32::MAX as u32)
}

/// Scrapes and probes are few.
const ADMIN_CONNECTIONS: usize = 64;

/// Personal data that has expired leaves memory within about this time, or within some of
/// these where tens of thousands of answers are stored.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

async fn sweep(gateway: Arc<Gateway>) {
    loop {
        sleep(SWEEP_EVERY).await;
        gateway.cache().sweep().await;
    }
}

/// Accepts connections until told to stop, then drains them. Answers how many had
/// to be closed with requests in flight.
async fn accept<H>(
    listener: TcpListener,
    patience: Patience,
    slots: Arc<Semaphore>,
    state: Option<Arc<State>>,
    handle: H,
    mut stop: watch::Receiver<bool>,
) -> usize
where
    H: Handle,
{
    let terms = Arc::new(Terms::new(patience, handle));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &slots) => accepted,
            _ = stop.wait_for(|&stop| stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must close first.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without it, a kernel that has no such option leaves answers waiting.
        stream.set_nodelay(true).ok();
        let slot = Slot {
            _permit: permit,
            _open: state.as_ref().map(|state| state.connection()),
        };
        connections.spawn(connection::serve(
            stream,
            Arc::clone(&terms),
            stop.clone(),
            slot,
        ));
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let drained = timeout(patience.drain_timeout, drained).await.is_ok();
    let left = if drained { 0 } else { connections.len() };
    connections.shutdown().await;
    left
}

/// What a connection takes of the room that there is for connections.
struct Slot {
    _permit: OwnedSemaphorePermit,
    _open: Option<OpenConnection>,
}

/// The next connection, once there is room for it.
async fn next(
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
