//! The pipeline: one request in, one response out. The only file that knows the
//! order of the steps; each step is decided in its own room.
//!
//! A GET of a cached template is *fetched*: looked up, coalesced, admitted, called
//! with retries, stored. Every other request is *relayed*: admitted and streamed,
//! once.
//!
//! A caller may leave at any point. Its place in a queue is given back; a flight
//! goes on if others wait for it or its call has been sent.

mod contradictions;
mod deadline;
mod fetch;
mod flight;
mod identity;
mod policy;
mod relay;
mod reply;
mod routed;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use tokio::time::Instant;

pub use policy::{DeadlinePolicy, Policy};

use crate::body::{Body, BoxError};
use crate::cache::policy::RequestDirectives;
use crate::cache::status::CacheStatus;
use crate::cache::{Cache, Lookup};
use crate::coalesce::Flights;
use crate::error::Error;
use crate::limits::{Family, Limits};
use crate::metrics::Metrics;
use crate::record::Record;
use crate::region::Region;
use crate::request::{self, Caller};
use crate::upstream::Upstream;
use crate::upstream::client::{Client, TlsError};
use contradictions::Contradictions;
use deadline::Deadline;
use fetch::Fetches;
use identity::Identities;
use reply::Reply;
use routed::RoutedRequest;

/// Everything that requests share.
pub struct Gateway {
    policy: ArcSwap<Policy>,
    identities: Identities,
    contradictions: Contradictions,
    fetches: Arc<Fetches>,
    metrics: Arc<Metrics>,
}

/// Why a gateway cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The trusted certificates cannot be read.
    #[error(transparent)]
    Tls(TlsError),
    /// The operating system provides no randomness.
    #[error("the operating system provides no randomness")]
    Randomness(#[source] getrandom::Error),
}

impl Gateway {
    /// Builds a gateway. Must be called within a runtime.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn new(policy: Policy) -> Result<Arc<Self>, BuildError> {
        let client = Client::new(&policy.upstream.client).map_err(BuildError::Tls)?;
        Self::with_client(policy, client)
    }

    /// Builds a gateway on a client, which may be a model of the network.
    ///
    /// # Errors
    /// The operating system provides no randomness.
    pub fn with_client(policy: Policy, client: Client) -> Result<Arc<Self>, BuildError> {
        let limits = Arc::new(Limits::new(&policy.limits));
        let metrics = Arc::new(Metrics::new());
        let counters = Arc::clone(&metrics);
        let upstream = Upstream::new(client, Arc::clone(&limits), counters, &policy.upstream);
        let identities = Identities::for_responses(policy.cache.max_entries);
        Ok(Arc::new(Self {
            identities: identities.map_err(BuildError::Randomness)?,
            contradictions: Contradictions::new(Arc::clone(&metrics)),
            fetches: Arc::new(Fetches {
                cache: Cache::new(policy.cache),
                flights: Flights::new(),
                limits,
                upstream,
            }),
            metrics,
            policy: ArcSwap::from_pointee(policy),
        }))
    }

    /// Responds to one request, received at a listener that may be bound to a region.
    ///
    /// Dropping the future leaves the request; see the module's documentation.
    pub async fn handle<B>(&self, request: Request<B>, listener: Option<Region>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (response, record) = self.recorded(request, listener).await;
        record.finish(response.status());
        response
    }

    /// Like [`handle`](Self::handle), but leaves it to the caller to finish the record.
    pub async fn recorded<B>(
        &self,
        request: Request<B>,
        listener: Option<Region>,
    ) -> (Response<Body>, Record)
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let policy = self.policy();
        let (parts, body) = request.into_parts();
        let (log, metrics) = (policy.log_requests, Arc::clone(&self.metrics));
        let mut record = Record::start(parts.method.clone(), &parts.headers, log, metrics);
        let outcome = self
            .respond(&policy, parts, body, listener, &mut record)
            .await;
        let response = reply::response(outcome, &mut record);
        (response, record)
    }

    /// The steps, in order; they are numbered in the crate's documentation.
    async fn respond<B>(
        &self,
        policy: &Arc<Policy>,
        mut parts: Parts,
        body: B,
        listener: Option<Region>,
        record: &mut Record,
    ) -> Result<Reply, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let mut caller = Caller::take(&mut parts)?;
        let identity = self.identities.of(caller.token.take());
        record.skill.clone_from(&identity.claims.skill);
        let route = routed::route(&policy.routes, &caller, &identity.claims, &parts, listener)?;
        record.region = Some(route.region);
        record.template = Some(route.label());
        self.contradictions.note(&route, record.skill.as_ref());
        let deadline = Deadline::of(caller.timeout, record.started, &policy.deadline);
        let request = RoutedRequest::new(parts, route, identity, deadline);
        let Some(fetch) = request.to_fetch(&self.identities) else {
            // Boxed, here and below, because a hit needs no room for it: the future of
            // a request is kept with its connection and moved for each request.
            let relay = relay::relay(self.upstream(), policy, request, body, record);
            return Box::pin(relay).await.map(Reply::Streamed);
        };
        record.family = Some(Family::Profile);
        // A hit reads no clock of its own, unless a body had to be read first.
        let mut now = record.started;
        if !body.is_end_stream() {
            let limit = policy.max_discarded_body_bytes;
            Box::pin(request::discard(body, limit, deadline.latest)).await?;
            now = Instant::now();
        }
        let directives = RequestDirectives::parse(&request.parts.headers);
        match self.cache().lookup(&fetch.key, &directives, now) {
            Lookup::Hit { entry, revalidate } => {
                if revalidate {
                    self.fetches.revalidate(policy, &request, &fetch);
                }
                Ok(Reply::Stored { entry, now })
            }
            Lookup::OnlyIfCached => reply::not_cached(record),
            Lookup::Fetch {
                forward,
                mode,
                fallback,
            } => {
                record.cache = Some(CacheStatus::forwarded(forward));
                let fetching = self.fetches.fetch(policy, &request, &fetch, mode, record);
                let fetched = Box::pin(fetching).await;
                Reply::fetched(fetched, forward, fallback, record)
            }
        }
    }

    /// Replaces the policy. Requests in progress keep the one they began with; cache,
    /// limits and breakers keep their state.
    pub fn reconfigure(&self, policy: Policy) {
        self.limits().reconfigure(&policy.limits);
        self.upstream().reconfigure(&policy.upstream);
        self.policy.store(Arc::new(policy));
    }

    /// The policy of requests that begin now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.fetches.cache
    }

    /// The quotas.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.fetches.limits
    }

    /// The way to Alexa.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.fetches.upstream
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The number of calls in flight, and of requests that wait for them.
    #[must_use]
    pub fn flights(&self) -> (usize, usize) {
        let flights = &self.fetches.flights;
        (flights.in_flight(), flights.waiting())
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("cache", self.cache())
            .finish_non_exhaustive()
    }
}
