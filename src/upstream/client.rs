//! The one place that dials Alexa, and the one that writes a token out.
//!
//! A pool of warm connections over TLS, HTTP/2 where the other side offers it; or,
//! in a simulation, a [`Model`] in their place.
//! [`Client::send`] takes a [`Permit`] by value, so no call can skip its quota.
//! Cancelling it closes or resets what was begun; the permit's slots then cool
//! as if it had been answered at that moment.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::{Deserialize, Serialize};

use super::connector::Connector;
use super::failure::Failure;
use super::pool::{Pool, PooledBody};
use super::retry::retry_after;
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

/// Which certificates are trusted; `[upstream.tls]` as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate authorities to start from.
    pub roots: Roots,
    /// A PEM file with further certificate authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_ca_file: Option<PathBuf>,
}

/// A list of trusted certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Roots {
    /// The list of the operating system.
    Os,
    /// Mozilla's list, compiled in.
    Bundled,
}

/// The way to the regional hosts. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Client {
    wire: Wire,
}

#[derive(Clone)]
enum Wire {
    Network(Arc<Pool>),
    Model(Model),
}

/// Takes what would be sent, token included, and answers what would come, when it
/// would. Stands in for the network in simulations and in tests on paused time.
pub type Model = Arc<dyn Fn(Request<Body>) -> Modelled + Send + Sync>;

/// An answer to come from a [`Model`].
pub type Modelled = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Kind>> + Send>>;

/// The body of an answer as it comes.
pub type ResponseBody = Either<PooledBody, Full<Bytes>>;

impl Client {
    /// Opens an empty pool.
    ///
    /// # Errors
    /// The trusted certificates cannot be read.
    pub fn new(policy: &Policy) -> Result<Self, TlsError> {
        let pool = pool(policy)?;
        Ok(Self {
            wire: Wire::Network(pool),
        })
    }

    /// A client that calls a model in place of the network.
    #[must_use]
    pub fn modelled(model: Model) -> Self {
        Self {
            wire: Wire::Model(model),
        }
    }

    /// Makes one call and answers its head; the body is the caller's to read.
    ///
    /// # Errors
    /// What kept an answer from coming. Only if no connection could be made is it
    /// certain that nothing was sent, and the permit gives its slots back at once.
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
        let outcome = match &self.wire {
            Wire::Network(pool) => pool.request(&mut request).await.map(network),
            Wire::Model(model) => model(request).await.map(modelled).map_err(Failure::from),
        };
        match outcome {
            Ok(response) => {
                permit.answered(answered(&response));
                // Nobody asked to switch protocols (RFC 9110 §15.2.2).
                match response.status() {
                    StatusCode::SWITCHING_PROTOCOLS => Err(Kind::BadAnswer.into()),
                    _ => Ok(response),
                }
            }
            Err(failure) => {
                if never_left(failure.kind()) {
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

/// Opens an empty pool.
pub(super) fn pool(policy: &Policy) -> Result<Arc<Pool>, TlsError> {
    let tls = tls_config(&policy.tls)?;
    Ok(Arc::new(Pool::new(
        Connector::new(tls, policy.connect_timeout),
        policy.pool_idle_timeout,
        policy.pool_max_idle_per_host,
    )))
}

/// What an answer means for the quota.
fn answered<B>(response: &Response<B>) -> Feedback {
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => Feedback::Throttled {
            retry_after: retry_after(response.headers(), SystemTime::now()),
        },
        _ => Feedback::Accepted,
    }
}

/// Whether a failure means that there was no connection to send anything on.
fn never_left(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Dns | Kind::Connect | Kind::ConnectTimeout | Kind::Tls
    )
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The trusted certificates cannot be read.
#[derive(Debug)]
pub struct TlsError {
    message: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for TlsError {}

fn tls_config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    match tls.roots {
        Roots::Bundled => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::Os => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let message = "upstream.tls.roots = \"os\": the operating system has no \
                    certificates; install them (package ca-certificates) or use \"bundled\"";
                return Err(TlsError {
                    message: message.into(),
                });
            }
        }
    }
    if let Some(file) = &tls.extra_ca_file {
        let at_fault = |why: &dyn fmt::Display| TlsError {
            message: format!("upstream.tls.extra_ca_file: {}: {why}", file.display()),
        };
        let certificates = CertificateDer::pem_file_iter(file).map_err(|e| at_fault(&e))?;
        let before = roots.len();
        for certificate in certificates {
            let certificate = certificate.map_err(|e| at_fault(&e))?;
            roots.add(certificate).map_err(|e| at_fault(&e))?;
        }
        if roots.len() == before {
            return Err(at_fault(&"holds no certificate in PEM form"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError {
            message: error.to_string(),
        })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
