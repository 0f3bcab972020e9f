//! Kept connections to the regional hosts.
//!
//! An HTTP/1.1 connection has no task of its own: the call that has it drives it, and
//! the reader of the answer after it, so that a call costs no switches between tasks.
//! It is kept once the answer has been read whole, and closed if it was not. An HTTP/2
//! connection has a task, and all calls to its origin share it.
//!
//! What the other side closes while it is kept is noticed by the next call, which then
//! takes another connection, or at the next sweep. A call that was not begun on a kept
//! connection is begun anew; one that was begun is not, for that needs a permit.

mod driven;
mod outgoing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme, Uri};
use http::{HeaderValue, Request, Response};
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

use super::connector::{Connector, Stream};
use super::failure::Failure;
use crate::body::{self, Body};
use crate::error::Kind;
pub(super) use driven::Incoming;
use driven::{Driven, drive};
use outgoing::Outgoing;

/// The connections of one process.
pub(super) struct Pool {
    connector: Connector,
    idle_timeout: Duration,
    max_idle_per_host: usize,
    /// Held for a few comparisons at a time, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that are in use: three regions, as a rule.
    origins: Vec<Origin>,
    /// Whether the sweeper runs.
    sweeping: bool,
}

/// What an origin is called (RFC 9110 §4.3.1).
#[derive(PartialEq)]
struct Name {
    scheme: Scheme,
    authority: Authority,
    /// The same in a head.
    host: HeaderValue,
}

/// What is known of one origin.
struct Origin {
    name: Arc<Name>,
    /// Its HTTP/1.1 connections that nobody uses, and since when; the latest last.
    idle: Vec<(Box<Driven>, Instant)>,
    /// Calls that open a connection, and would rather have one that is given back.
    waiting: VecDeque<oneshot::Sender<Box<Driven>>>,
    /// Its HTTP/2 connection, and when it was used last.
    shared: Option<(Shared, Instant)>,
    /// The one call that opens a connection where all may turn out to share it.
    opening: Option<watch::Receiver<Opened>>,
    /// It takes one connection for each call at a time.
    speaks_http1: bool,
}

type Shared = http2::SendRequest<Outgoing>;

/// What came of opening a connection, once that is known.
type Opened = Option<Result<(), Failure>>;

/// A connection to come, and whether it has been used before.
type Opening = Pin<Box<dyn Future<Output = Result<(Connection, bool), Failure>> + Send>>;

/// An HTTP/2 connection on which nothing has come for this long while a call is under
/// way is asked whether it lives, and closed if it does not say so. One whose other side
/// is gone without a word would else swallow every call, and stay in use by that. Every
/// call on it ends with it, also those that must not be sent again, so it has the time
/// that TCP takes to get over some lost segments (1.4 s for three, RFC 6298).
const PING_AFTER: Duration = Duration::from_secs(1);
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// A connection to make a call on.
enum Connection {
    Own(Box<Driven>),
    Shared(Shared),
}

/// What there is to do to get a connection.
enum Way {
    /// Take this one, which has been used before.
    Kept(Connection),
    /// Open one, or take the first that is given back.
    Open(oneshot::Receiver<Box<Driven>>),
    /// Open one for all.
    OpenForAll(watch::Sender<Opened>),
    /// Wait until another call has.
    Wait(watch::Receiver<Opened>),
}

impl Pool {
    pub(super) fn new(
        connector: Connector,
        idle_timeout: Duration,
        max_idle_per_host: usize,
    ) -> Self {
        Self {
            connector,
            idle_timeout,
            max_idle_per_host,
            state: Mutex::default(),
        }
    }

    /// Makes one call, and takes the headers and the body out of the request for it.
    /// Cancelling it closes the connection or resets the stream.
    ///
    /// # Errors
    /// What kept the head of an answer from coming.
    pub(super) async fn request(
        self: &Arc<Self>,
        request: &mut Request<Body>,
    ) -> Result<Response<Incoming>, Failure> {
        loop {
            let (connection, kept) = match self.way(request.uri())? {
                Way::Kept(connection) => (connection, true),
                way => self.opened(way, request.uri()).await?,
            };
            let mut error = match connection {
                Connection::Own(mut own) => {
                    let headers = request.headers_mut();
                    headers.insert(HOST, own.origin().host.clone());
                    let (answer, connection) = own.begin(begun(request, origin_form));
                    let mut answer = pin!(answer);
                    let answer = poll_fn(|cx| {
                        drive(connection, cx);
                        answer.as_mut().poll(cx)
                    });
                    match answer.await {
                        Ok(response) => {
                            let pool = Arc::downgrade(self);
                            return Ok(response.map(|body| Incoming::driven(body, own, pool)));
                        }
                        Err(error) => error,
                    }
                }
                Connection::Shared(mut shared) => {
                    request.headers_mut().remove(HOST);
                    match shared.try_send_request(begun(request, Uri::clone)).await {
                        Ok(response) => return Ok(response.map(Incoming::shared)),
                        Err(error) => error,
                    }
                }
            };
            match error.take_message() {
                // Nothing of it was sent.
                Some(again) if kept => {
                    let (parts, body) = again.into_parts();
                    *request.headers_mut() = parts.headers;
                    *request.body_mut() = body.0;
                }
                _ => return Err(Failure::awaiting_head(error.into_error())),
            }
        }
    }

    /// Waits for a connection. In a box, for most calls have no need for the room that
    /// it takes.
    fn opened(self: &Arc<Self>, mut way: Way, uri: &Uri) -> Opening {
        let (this, uri) = (Arc::clone(self), uri.clone());
        Box::pin(async move {
            loop {
                match way {
                    Way::Kept(connection) => return Ok((connection, true)),
                    Way::Open(given_back) => {
                        let mut given_back = GivenBack(given_back, &this);
                        return tokio::select! {
                            biased;
                            Ok(own) = &mut given_back.0 => Ok((Connection::Own(own), true)),
                            opened = this.open(uri.clone()) => Ok((opened?, false)),
                        };
                    }
                    Way::OpenForAll(tell) => {
                        let opened = this.open(uri.clone()).await;
                        tell.send_replace(Some(opened.as_ref().map(drop).map_err(Failure::clone)));
                        return Ok((opened?, false));
                    }
                    Way::Wait(mut opened) => {
                        // Without an outcome, whoever opened it has left.
                        if let Ok(opened) = opened.wait_for(Option::is_some).await {
                            opened.clone().unwrap_or(Ok(()))?;
                        }
                    }
                }
                way = this.way(&uri)?;
            }
        })
    }

    fn way(&self, uri: &Uri) -> Result<Way, Failure> {
        let now = Instant::now();
        let mut state = self.lock();
        let origin = state.origin(uri).ok_or(Failure::from(Kind::Internal))?;
        if let Some((shared, used)) = &mut origin.shared {
            if !shared.is_closed() && now - *used < self.idle_timeout {
                *used = now;
                return Ok(Way::Kept(Connection::Shared(shared.clone())));
            }
            origin.shared = None;
        }
        while let Some((own, since)) = origin.idle.pop() {
            if now - since < self.idle_timeout {
                return Ok(Way::Kept(Connection::Own(own)));
            }
        }
        // Whether TLS leads to HTTP/2 is not known before.
        if origin.name.scheme == Scheme::HTTPS && !origin.speaks_http1 {
            if let Some(opening) = &origin.opening
                && opening.has_changed().is_ok()
            {
                return Ok(Way::Wait(opening.clone()));
            }
            let (tell, opening) = watch::channel(None);
            origin.opening = Some(opening);
            return Ok(Way::OpenForAll(tell));
        }
        // Now and then, so that many who open at a time do not all look at each other.
        if origin.waiting.len().is_power_of_two() {
            origin.waiting.retain(|waiting| !waiting.is_closed());
        }
        let (give, given_back) = oneshot::channel();
        origin.waiting.push_back(give);
        Ok(Way::Open(given_back))
    }

    /// Opens a connection.
    async fn open(self: &Arc<Self>, uri: Uri) -> Result<Connection, Failure> {
        let stream = self.connector.connect(uri.clone()).await?;
        match stream.connected().is_negotiated_h2() {
            true => self.share(&uri, stream).await.map(Connection::Shared),
            false => self.own(&uri, stream).await.map(Connection::Own),
        }
    }

    async fn own(&self, uri: &Uri, stream: Stream) -> Result<Box<Driven>, Failure> {
        let (sender, connection) = http1::handshake(stream)
            .await
            .map_err(Failure::awaiting_head)?;
        let mut state = self.lock();
        let origin = state.origin(uri).ok_or(Failure::from(Kind::Internal))?;
        origin.speaks_http1 = true;
        Ok(Box::new(Driven::new(
            sender,
            connection,
            Arc::clone(&origin.name),
        )))
    }

    async fn share(self: &Arc<Self>, uri: &Uri, stream: Stream) -> Result<Shared, Failure> {
        let handshake = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PONG_WITHIN)
            .handshake(stream);
        let (sender, connection) = handshake.await.map_err(Failure::awaiting_head)?;
        // Ends with the last sender, or with the connection.
        tokio::spawn(connection);
        let mut state = self.lock();
        let origin = state.origin(uri).ok_or(Failure::from(Kind::Internal))?;
        origin.speaks_http1 = false;
        origin.shared = Some((sender.clone(), Instant::now()));
        self.keep_swept(&mut state);
        Ok(sender)
    }

    /// Takes back a connection whose answer has been read whole.
    fn give_back(self: &Arc<Self>, mut own: Box<Driven>) {
        let mut state = self.lock();
        let origin = state.named(own.origin());
        while let Some(waiting) = origin.waiting.pop_front() {
            match waiting.send(own) {
                Ok(()) => return,
                Err(back) => own = back,
            }
        }
        if origin.idle.len() >= self.max_idle_per_host {
            drop(state);
            return;
        }
        origin.idle.push((own, Instant::now()));
        self.keep_swept(&mut state);
    }

    /// Closes what nobody has used for too long and what the other side has closed.
    /// Whether anything is left to sweep.
    fn swept(&self) -> bool {
        let now = Instant::now();
        // Closed when the lock is free again.
        let mut closed = Vec::new();
        let mut state = self.lock();
        for origin in &mut state.origins {
            let is_over = |(own, since): &mut (Box<Driven>, Instant)| {
                now - *since >= self.idle_timeout || own.is_over()
            };
            closed.extend(origin.idle.extract_if(.., is_over));
            let is_unused = |(_, used): &mut (Shared, Instant)| now - *used >= self.idle_timeout;
            origin.shared.take_if(is_unused);
        }
        state.origins.retain(Origin::is_in_use);
        state.sweeping = !state.origins.is_empty();
        state.sweeping
    }

    /// Sees to it that what is kept now is closed in time.
    fn keep_swept(self: &Arc<Self>, state: &mut State) {
        if !mem::replace(&mut state.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.idle_timeout / 2));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is known of the origin of an absolute URI.
    fn origin(&mut self, uri: &Uri) -> Option<&mut Origin> {
        let (scheme, authority) = (uri.scheme()?, uri.authority()?);
        let is_it = |name: &Name| name.scheme == *scheme && name.authority == *authority;
        let at = self.origins.iter().position(|origin| is_it(&origin.name));
        let new = || Arc::new(Name::new(scheme.clone(), authority.clone()));
        Some(self.at(at, new))
    }

    /// The same of an origin by its name.
    fn named(&mut self, name: &Arc<Name>) -> &mut Origin {
        let is_it = |origin: &Origin| Arc::ptr_eq(&origin.name, name) || origin.name == *name;
        let at = self.origins.iter().position(is_it);
        self.at(at, || Arc::clone(name))
    }

    fn at(&mut self, at: Option<usize>, new: impl FnOnce() -> Arc<Name>) -> &mut Origin {
        let at = at.unwrap_or_else(|| {
            self.origins.push(Origin::new(new()));
            self.origins.len() - 1
        });
        &mut self.origins[at]
    }
}

impl Name {
    fn new(scheme: Scheme, authority: Authority) -> Self {
        // RFC 9110 §4.2.3: the port of the scheme itself is left out.
        let usual = match scheme == Scheme::HTTPS {
            true => 443,
            false => 80,
        };
        let host = match authority.port_u16() {
            Some(port) if port != usual => HeaderValue::try_from(authority.as_str()),
            _ => HeaderValue::try_from(authority.host()),
        };
        Self {
            scheme,
            authority,
            host: host.unwrap_or(HeaderValue::from_static("")),
        }
    }
}

impl Origin {
    fn new(name: Arc<Name>) -> Self {
        Self {
            name,
            idle: Vec::new(),
            waiting: VecDeque::new(),
            shared: None,
            opening: None,
            speaks_http1: false,
        }
    }

    fn is_in_use(&self) -> bool {
        let is_opening = |opening: &watch::Receiver<Opened>| opening.has_changed().is_ok();
        // Connections have its name, also while calls use them.
        Arc::strong_count(&self.name) > 1
            || self.shared.is_some()
            || self.waiting.iter().any(|waiting| !waiting.is_closed())
            || self.opening.as_ref().is_some_and(is_opening)
    }
}

/// Where a connection comes that somebody gives back. One that nobody takes out, for
/// another was opened or the call was cancelled, goes back once more.
struct GivenBack<'a>(oneshot::Receiver<Box<Driven>>, &'a Arc<Pool>);

impl Drop for GivenBack<'_> {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(own) = self.0.try_recv() {
            self.1.give_back(own);
        }
    }
}

async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        sleep(every).await;
        if !pool.upgrade().is_some_and(|pool| pool.swept()) {
            return;
        }
    }
}

/// A request as it is handed to a connection, with headers and body taken out of the one
/// that stays here. Only its URI is needed in case it has to be begun anew.
fn begun(request: &mut Request<Body>, form: impl FnOnce(&Uri) -> Uri) -> Request<Outgoing> {
    let body = mem::replace(request.body_mut(), body::whole(Bytes::new()));
    let mut begun = Request::new(Outgoing(body));
    *begun.headers_mut() = mem::take(request.headers_mut());
    *begun.method_mut() = request.method().clone();
    *begun.uri_mut() = form(request.uri());
    begun
}

/// RFC 9112 §3.2.1.
fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query()
        .cloned()
        .map_or_else(Uri::default, Uri::from)
}
