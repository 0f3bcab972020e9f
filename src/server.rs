//! Listeners, connections, and how they end.
//!
//! [`Server::start`] binds everything or nothing; [`Server::stop`] stops
//! accepting, lets requests in flight finish, and closes what is left after the
//! drain time-out. Connections are bounded in number, in the time until their
//! first request, and in idle time.

mod activity;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use crate::admin::{Admin, State};
use crate::body::BoxError;
use crate::config::Config;
use crate::gateway::{BuildError, Gateway};
use activity::{Activity, Tracked};

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
pub(crate) struct Patience {
    /// Until the first request.
    pub(crate) request_head_timeout: Duration,
    /// Between requests.
    pub(crate) idle_timeout: Duration,
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
        let bind = async |address| {
            let listener = TcpListener::bind(address).await;
            listener.map_err(|error| StartError::Bind(address, error))
        };
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
            bound.push((bind(listener.address).await?, listener.region));
        }
        let admin_listener = match admin.enabled {
            true => Some(bind(admin.address).await?),
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
            let handle = move |request: Request<Incoming>| {
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
            let handle = move |request: Request<Incoming>| {
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

/// Scrapes and probes are few.
const ADMIN_CONNECTIONS: usize = 64;

/// Personal data that has expired leaves memory within about this time.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

async fn sweep(gateway: Arc<Gateway>) {
    loop {
        sleep(SWEEP_EVERY).await;
        gateway.cache().sweep();
    }
}

/// Accepts connections until told to stop, then drains them. Answers how many had
/// to be closed with requests in flight.
async fn accept<H, F, B>(
    listener: TcpListener,
    patience: Patience,
    slots: Arc<Semaphore>,
    state: Option<Arc<State>>,
    handle: H,
    mut stop: watch::Receiver<bool>,
) -> usize
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &slots) => accepted,
            _ = stop.wait_for(|&stop| stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must close first.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let open = state.as_ref().map(|state| state.connection());
        let connection = serve(stream, patience, handle.clone(), stop.clone());
        connections.spawn(async move {
            connection.await;
            drop((slot, open));
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    let drained = timeout(patience.drain_timeout, drained).await.is_ok();
    let left = if drained { 0 } else { connections.len() };
    connections.shutdown().await;
    left
}

type Slot = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there is room for it.
async fn next(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, Slot)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// Serves one connection to its end.
async fn serve<H, F, B>(
    stream: TcpStream,
    patience: Patience,
    handle: H,
    mut stop: watch::Receiver<bool>,
) where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    // Without it, a kernel that has no such option leaves answers waiting.
    stream.set_nodelay(true).ok();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience.write_timeout));
    let activity = Activity::new();
    let service = service_fn({
        let activity = Arc::clone(&activity);
        move |request| {
            let request_guard = activity.request();
            let answer = handle(request);
            async move {
                let answer = answer.await.map(|body| Tracked::new(body, request_guard));
                Ok::<_, std::convert::Infallible>(answer)
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.idle_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(patience.idle_timeout / 2))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32);
    let io = TokioIo::new(Box::pin(stream));
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    // `auto` has no timer before it knows the protocol, and HTTP/2 has none for
    // idle connections: what asks for nothing is ended here.
    let mut quiet = std::pin::pin!(activity.quiet(patience));
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error = %error, "a connection broke");
                }
                return;
            }
            () = stopped(&mut stop), if !closing => {
                connection.as_mut().graceful_shutdown();
                closing = true;
            }
            () = &mut quiet => {
                // No request is in flight. The other side is told, and not waited for.
                connection.as_mut().graceful_shutdown();
                timeout(FAREWELL, connection).await.ok();
                tracing::debug!("an idle connection was closed");
                return;
            }
        }
    }
}

/// Completes when the server stops, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|&stop| stop).await.ok();
}

/// How long a connection that is idle has for its last words.
const FAREWELL: Duration = Duration::from_millis(500);

/// Room for a token of 8 KiB, and for everything else that skills send.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1000;
