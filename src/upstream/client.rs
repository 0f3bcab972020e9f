//! The only place that calls Alexa, and the only one that writes a token out.
//!
//! Calls go over pooled connections, HTTP/2 where the other side offers it; or, in a
//! simulation, to a [`Model`]. `Client::send` takes a [`Permit`] by value, so no call
//! can skip its quota. Cancelling it closes the connection or resets the stream; the
//! permit's slots then cool down as if a response had come at that moment.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};

use super::connector::Connector;
use super::failure::Failure;
use super::pool::{Pool, PooledBody};
use super::retry::retry_after;
pub use super::tls::{Roots, Tls, TlsError};
use crate::body::Body;
use crate::error::Kind;
use crate::limits::{Feedback, Permit};
use crate::token::BearerToken;

/// How connections are made and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The longest time to connect, TLS included.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept.
    pub pool_idle_timeout: Duration,
    /// How many idle connections to one host are kept.
    pub pool_max_idle_per_host: usize,
    /// Which certificates are trusted.
    pub tls: Tls,
}

/// The way to the regional hosts. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
}

#[derive(Clone)]
enum Transport {
    Network(Arc<Pool>),
    Model(Model),
}

/// Takes the place of the network in simulations and in tests on paused time: takes the
/// request that would be sent, token included, and gives the response when it would come.
pub type Model = Arc<dyn Fn(Request<Body>) -> Modelled + Send + Sync>;

/// A response of a [`Model`], in time.
pub type Modelled = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Kind>> + Send>>;

/// The body of a response, as it arrives.
pub type ResponseBody = Either<PooledBody, Full<Bytes>>;

impl Client {
    /// A client without any connection yet.
    ///
    /// # Errors
    /// The trusted certificates cannot be read.
    pub fn new(policy: &Policy) -> Result<Self, TlsError> {
        let pool = pool(policy)?;
        Ok(Self {
            transport: Transport::Network(pool),
        })
    }

    /// A client that calls a model in place of the network.
    #[must_use]
    pub fn modelled(model: Model) -> Self {
        Self {
            transport: Transport::Model(model),
        }
    }

    /// Makes one call and returns the head of the response; the body is the caller's to
    /// read.
    ///
    /// # Errors
    /// Why there is no response. If no connection could be opened, nothing was sent and
    /// the permit's slots are free at once.
    pub(super) async fn send(
        &self,
        mut permit: Permit,
        mut request: Request<Body>,
        token: Option<&BearerToken>,
    ) -> Result<Response<ResponseBody>, Failure> {
        if let Some(token) = token {
            request
                .headers_mut()
                .insert(AUTHORIZATION, token.authorization().clone());
        }
        permit.sent();
        let result = match &self.transport {
            Transport::Network(pool) => pool.request(&mut request).await.map(network),
            Transport::Model(model) => model(request).await.map(modelled).map_err(Failure::from),
        };
        match result {
            Ok(response) => {
                permit.answered(feedback(&response));
                // No request asks for an upgrade (RFC 9110 §15.2.2).
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Err(Kind::BadAnswer.into());
                }
                Ok(response)
            }
            Err(failure) => {
                if failure.is_unsent() {
                    permit.not_sent();
                }
                Err(failure)
            }
        }
    }
}

fn network(response: Response<PooledBody>) -> Response<ResponseBody> {
    response.map(Either::Left)
}

fn modelled(response: Response<Bytes>) -> Response<ResponseBody> {
    response.map(|body| Either::Right(Full::new(body)))
}

/// A pool without any connection yet.
pub(super) fn pool(policy: &Policy) -> Result<Arc<Pool>, TlsError> {
    let tls = policy.tls.client_config()?;
    Ok(Arc::new(Pool::new(
        Connector::new(tls, policy.connect_timeout),
        policy.pool_idle_timeout,
        policy.pool_max_idle_per_host,
    )))
}

/// What a response means for the quota.
fn feedback<B>(response: &Response<B>) -> Feedback {
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Feedback::Throttled {
            retry_after: retry_after(response.headers(), SystemTime::now()),
        },
        _ => Feedback::Accepted,
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
