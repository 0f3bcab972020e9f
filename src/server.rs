//! Listeners, connections, and how they end.
//!
//! [`Server::start`] binds all addresses or none. [`Server::stop`] stops accepting,
//! lets requests in flight finish, and closes the rest at the drain time-out.
//! Connections are limited in number, in the time a request head may take, and in idle
//! time. An idle connection costs little more than its socket: see `server/parking.rs`.

mod activity;
mod connection;
mod drive;
mod handler;
mod http1;
mod http2;
mod idle;
mod listener;
mod parking;
mod policy;
mod sniff;
mod stop;
mod stream;
mod timeouts;
mod tracked;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::{self, Admin, ServerState};
use crate::gateway::{self, BuildError, Gateway};
use handler::{Handler, IncomingRequest, ListenerShared};
use listener::Listener;
pub use policy::{ListenAddress, Policy};
use stop::StopSwitch;
pub use timeouts::Timeouts;

/// A running gateway with its listeners. Dropping it closes everything at once.
pub struct Server {
    gateway: Arc<Gateway>,
    state: Arc<ServerState>,
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    stop: StopSwitch,
    listeners: JoinSet<usize>,
    admin: JoinSet<usize>,
    sweeper: JoinHandle<()>,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The gateway cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Another process listens on this address.
    #[error("{0} is in use; stop the other process, or change server.listeners or admin.address")]
    AddressInUse(SocketAddr),
    /// This address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address of the configuration.
        address: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl Server {
    /// Builds a gateway and opens its listeners.
    ///
    /// # Errors
    /// The gateway cannot be built, or an address cannot be bound. Nothing is left open
    /// then.
    pub async fn start(
        policy: Policy,
        admin: admin::Policy,
        gateway: gateway::Policy,
    ) -> Result<Self, StartError> {
        let mut sockets = Vec::new();
        for listener in &policy.listeners {
            sockets.push((bind(listener.address)?, listener.region));
        }
        let admin_socket = admin.address.map(bind).transpose()?;
        let gateway = Gateway::new(gateway)?;
        let state = Arc::new(ServerState::new());
        let stop = StopSwitch::new();

        let slots = Arc::new(Semaphore::new(
            policy.max_connections.get().min(Semaphore::MAX_PERMITS),
        ));
        let mut addresses = Vec::new();
        let mut listeners = JoinSet::new();
        for (socket, region) in sockets {
            addresses.extend(socket.local_addr());
            let gateway = Arc::clone(&gateway);
            let handler = move |request: IncomingRequest| {
                let gateway = Arc::clone(&gateway);
                async move { gateway.handle(request, region).await }
            };
            let listener = Listener {
                socket,
                shared: ListenerShared::new(policy.timeouts, handler),
                slots: Arc::clone(&slots),
                state: Some(Arc::clone(&state)),
            };
            listeners.spawn(listener.run(stop.signal()));
        }
        let admin_address = admin_socket
            .as_ref()
            .and_then(|socket| socket.local_addr().ok());
        let mut admin_tasks = JoinSet::new();
        if let Some(socket) = admin_socket {
            let admin = Admin::new(Arc::clone(&gateway), Arc::clone(&state));
            let listener = Listener {
                socket,
                shared: ListenerShared::new(policy.timeouts, admin_handler(admin)),
                slots: Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS)),
                state: None,
            };
            // Operators are served until all other listeners have drained.
            let never = StopSwitch::new();
            admin_tasks.spawn(async move { listener.run(never.signal()).await });
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

    /// The state that the admin listener shows.
    #[must_use]
    pub fn state(&self) -> &Arc<ServerState> {
        &self.state
    }

    /// The addresses of the listeners, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the admin listener, if it is enabled.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Stops accepting, waits for requests in flight, and closes the rest at the drain
    /// time-out. Returns how many connections had to be closed.
    pub async fn stop(mut self) -> usize {
        self.state.set_ready(false);
        self.stop.stop();
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

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    listener::bind(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse(address),
        _ => StartError::Bind { address, source },
    })
}

fn admin_handler(admin: Admin) -> impl Handler {
    let admin = Arc::new(admin);
    move |request: IncomingRequest| {
        let admin = Arc::clone(&admin);
        async move { admin.handle(&request).map(Full::<Bytes>::new) }
    }
}

/// Enough for scrapers and probes.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Removes expired responses, which are personal data, from memory.
async fn sweep(gateway: Arc<Gateway>) {
    gateway.cache().sweep_periodically().await;
}
