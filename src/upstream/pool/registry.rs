//! Which connections exist, and which call gets which.
//!
//! Idle HTTP/1.1 connections are handed out last in, first out, so that surplus ones
//! time out. A call that must open one also waits for one that another call gives back,
//! in order of arrival. HTTP/2 connections are shared by all calls to their origin.
//! A sweep closes connections that are idle for too long or closed by the other side.
//!
//! The origin of every URI that was ever called is remembered. Only configured
//! upstreams are called, so they are few.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::Uri;
use hyper::client::conn::{http1, http2};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use super::http1_conn::Http1Conn;
use super::origin::Origin;
use super::request_body::RequestBody;
use crate::upstream::connector::Stream;
use crate::upstream::failure::Failure;

/// The connections of one process.
pub(super) struct Registry {
    idle_timeout: Duration,
    max_idle_per_origin: usize,
    /// Held for a few comparisons at a time, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    origins: Vec<OriginState>,
    /// Whether the sweeper runs.
    sweeping: bool,
}

/// The connections to one origin.
struct OriginState {
    origin: Origin,
    /// Idle HTTP/1.1 connections, the last used last.
    idle: Vec<Idle>,
    /// Calls that open a connection but take one that is given back first, by ticket.
    waiting: BTreeMap<u64, oneshot::Sender<Box<Http1Conn>>>,
    next_ticket: u64,
    /// The HTTP/2 connection, and when it was last used.
    shared: Option<Shared>,
    /// The call that opens the first connection, while nobody knows whether it will be
    /// shared. Its sender is gone when the call is.
    opening: Option<watch::Receiver<Opened>>,
    /// TLS negotiated HTTP/1.1, so each call needs a connection of its own.
    speaks_http1: bool,
}

struct Idle {
    connection: Box<Http1Conn>,
    since: Instant,
}

struct Shared {
    sender: Http2Conn,
    last_used: Instant,
}

/// A handle to an HTTP/2 connection.
pub(super) type Http2Conn = http2::SendRequest<RequestBody>;

/// The outcome of opening a connection, once it is known.
pub(super) type Opened = Option<Result<(), Failure>>;

/// A connection to send one request on.
pub(super) enum Connection {
    Http1(Box<Http1Conn>),
    Http2(Http2Conn),
}

/// How a call gets its connection.
pub(super) enum Checkout {
    /// Use this one, which was used before.
    Kept(Connection),
    /// Open one, or take the first that is given back.
    Open(PendingCheckout),
    /// Open one for all calls that wait.
    OpenForAll(watch::Sender<Opened>),
    /// Wait for the call that opens one.
    Wait(watch::Receiver<Opened>),
}

impl Registry {
    pub(super) fn new(idle_timeout: Duration, max_idle_per_origin: usize) -> Self {
        Self {
            idle_timeout,
            max_idle_per_origin,
            state: Mutex::default(),
        }
    }

    /// Decides how a call to `uri` gets its connection.
    pub(super) fn checkout(self: &Arc<Self>, uri: &Uri) -> Checkout {
        let now = Instant::now();
        let mut state = self.state.lock();
        let index = state.index_of(uri);
        let origin = &mut state.origins[index];
        if let Some(shared) = &mut origin.shared {
            if !shared.sender.is_closed() && now - shared.last_used < self.idle_timeout {
                shared.last_used = now;
                return Checkout::Kept(Connection::Http2(shared.sender.clone()));
            }
            origin.shared = None;
        }
        while let Some(idle) = origin.idle.pop() {
            if now - idle.since < self.idle_timeout {
                return Checkout::Kept(Connection::Http1(idle.connection));
            }
        }
        // TLS may negotiate HTTP/2: then one connection serves all calls.
        if origin.origin.is_https() && !origin.speaks_http1 {
            if let Some(opening) = &origin.opening
                && opening.has_changed().is_ok()
            {
                return Checkout::Wait(opening.clone());
            }
            let (tell, opening) = watch::channel(None);
            origin.opening = Some(opening);
            return Checkout::OpenForAll(tell);
        }
        let (give, given_back) = oneshot::channel();
        let ticket = origin.next_ticket;
        origin.next_ticket += 1;
        origin.waiting.insert(ticket, give);
        Checkout::Open(PendingCheckout {
            given_back,
            origin: index,
            ticket,
            registry: Arc::clone(self),
        })
    }

    /// Takes note of a new HTTP/1.1 connection, which one call uses.
    pub(super) fn add_http1(
        &self,
        uri: &Uri,
        sender: http1::SendRequest<RequestBody>,
        connection: http1::Connection<Stream, RequestBody>,
    ) -> Box<Http1Conn> {
        let mut state = self.state.lock();
        let index = state.index_of(uri);
        let origin = &mut state.origins[index];
        origin.speaks_http1 = true;
        let host = origin.origin.host().clone();
        Box::new(Http1Conn::new(sender, connection, index, host))
    }

    /// Shares a new HTTP/2 connection.
    pub(super) fn add_http2(self: &Arc<Self>, uri: &Uri, sender: Http2Conn) {
        let mut state = self.state.lock();
        let index = state.index_of(uri);
        let origin = &mut state.origins[index];
        origin.speaks_http1 = false;
        origin.shared = Some(Shared {
            sender,
            last_used: Instant::now(),
        });
        self.keep_swept(&mut state);
    }

    /// Takes back a connection whose response was read to its end.
    pub(super) fn give_back(self: &Arc<Self>, mut connection: Box<Http1Conn>) {
        let mut state = self.state.lock();
        let origin = &mut state.origins[connection.origin()];
        while let Some((_, waiting)) = origin.waiting.pop_first() {
            match waiting.send(connection) {
                Ok(()) => return,
                Err(returned) => connection = returned,
            }
        }
        if origin.idle.len() >= self.max_idle_per_origin {
            // Closed after the lock is released.
            drop(state);
            return;
        }
        let since = Instant::now();
        origin.idle.push(Idle { connection, since });
        self.keep_swept(&mut state);
    }

    /// Closes connections that have been idle for too long or that the other side has
    /// closed. Whether any is left.
    pub(super) fn sweep(&self) -> bool {
        let now = Instant::now();
        // Closed after the lock is released.
        let mut closed = Vec::new();
        let mut state = self.state.lock();
        for origin in &mut state.origins {
            let is_over = |idle: &mut Idle| {
                now - idle.since >= self.idle_timeout || idle.connection.has_ended()
            };
            closed.extend(origin.idle.extract_if(.., is_over));
            let is_unused = |shared: &mut Shared| now - shared.last_used >= self.idle_timeout;
            origin.shared.take_if(is_unused);
        }
        state.sweeping = state.origins.iter().any(OriginState::is_kept);
        state.sweeping
    }

    /// Makes sure that a sweeper runs while connections are kept.
    fn keep_swept(self: &Arc<Self>, state: &mut State) {
        if !mem::replace(&mut state.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.idle_timeout / 2));
        }
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        let state = self.state.lock();
        state.origins.iter().map(|origin| origin.idle.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state
            .origins
            .iter()
            .map(|origin| origin.waiting.len())
            .sum()
    }
}

impl State {
    fn index_of(&mut self, uri: &Uri) -> usize {
        let known = |origin: &OriginState| origin.origin.is_of(uri);
        self.origins.iter().position(known).unwrap_or_else(|| {
            self.origins.push(OriginState::new(Origin::of(uri)));
            self.origins.len() - 1
        })
    }
}

impl OriginState {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            idle: Vec::new(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            shared: None,
            opening: None,
            speaks_http1: false,
        }
    }

    /// Whether it keeps a connection.
    fn is_kept(&self) -> bool {
        !self.idle.is_empty() || self.shared.is_some()
    }
}

/// A call that waits for a connection to be given back. Dropped without taking one, it
/// leaves the queue, and a connection that was already on its way goes to the next call.
pub(super) struct PendingCheckout {
    given_back: oneshot::Receiver<Box<Http1Conn>>,
    origin: usize,
    ticket: u64,
    registry: Arc<Registry>,
}

impl PendingCheckout {
    /// The next connection that is given back; `None` if that cannot happen any more.
    pub(super) async fn given_back(&mut self) -> Option<Box<Http1Conn>> {
        (&mut self.given_back).await.ok()
    }
}

impl Drop for PendingCheckout {
    fn drop(&mut self) {
        let mut state = self.registry.state.lock();
        state.origins[self.origin].waiting.remove(&self.ticket);
        drop(state);
        // `give_back` sends while it holds the lock, so nothing comes after this.
        if let Ok(connection) = self.given_back.try_recv() {
            self.registry.give_back(connection);
        }
    }
}

async fn sweep(registry: Weak<Registry>, every: Duration) {
    loop {
        sleep(every).await;
        if !registry.upgrade().is_some_and(|registry| registry.sweep()) {
            return;
        }
    }
}
