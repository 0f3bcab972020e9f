//! The pipeline: one request in, one response out. The only file that knows the
//! order of the steps; what each step decides is in its own room.
//!
//! A request whose path a rule matches is *fetched*: looked up, coalesced,
//! admitted, called with retries, stored. Anything else is *relayed*: admitted
//! and streamed, once. A caller may leave at any point: its place in a queue is
//! given back, and a flight that others wait for, or that was sent, goes on.

mod flight;
mod policy;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use tokio::time::Instant;

use crate::body::{self, Body, BoxError};
use crate::cache::entry::Entry;
use crate::cache::key::CacheKey;
use crate::cache::policy::{FetchMode, RequestDirectives};
use crate::cache::response::{ResponseStamp, StoredResponse};
use crate::cache::status::{CacheStatus, Forward};
use crate::cache::{Cache, Lookup};
use crate::coalesce::{Flights, NotLanded, Waiter};
use crate::error::{Error, Kind};
use crate::headers::{CACHE_STATUS, REQUEST_ID, add_via};
use crate::limits::{Family, Limits};
use crate::metrics::Metrics;
use crate::record::Record;
use crate::region::Region;
use crate::request::{self, Caller};
use crate::route::{Evidence, Route, RouteError, Rule};
use crate::token::{BearerToken, ClaimsCache, DigestKey, SkillId, TokenDigest, UnverifiedClaims};
use crate::upstream::client::{Client, TlsError};
use crate::upstream::{self, Call, Upstream};
pub use policy::{DeadlinePolicy, Policy};

use flight::{Flight, FlightKey, Landed};

/// Everything that requests share. Lives behind an `Arc`, for flights outlive
/// the requests that start them.
pub struct Gateway {
    policy: ArcSwap<Policy>,
    digest_key: DigestKey,
    hints: ClaimsCache,
    cache: Cache,
    flights: Flights<FlightKey, Landed>,
    limits: Arc<Limits>,
    upstream: Upstream,
    metrics: Arc<Metrics>,
    /// The skills whose contradicting region has been logged.
    contradicting: Mutex<HashSet<Option<SkillId>>>,
}

/// How many skills are remembered as contradicting; more are counted unlogged.
const MAX_CONTRADICTING: usize = 1000;

/// What a request asks for, once it is known where it goes.
struct Ask {
    parts: Parts,
    route: Route,
    credentials: Option<Credentials>,
    hints: UnverifiedClaims,
    /// When its caller wants to have an answer.
    deadline: Instant,
    /// The same, if the caller said so.
    answer_by: Option<Instant>,
}

/// What a request is answered with.
enum Reply {
    /// A stored answer, and when it was found to be of use.
    Stored(Arc<Entry>, Instant),
    /// The answer to a call, and how it came to be made.
    Called(StoredResponse, CacheStatus),
    /// What comes from upstream, as it comes.
    Streamed(Response<Body>),
}

/// A token and what stands for it.
struct Credentials {
    token: BearerToken,
    digest: TokenDigest,
}

/// The gateway cannot be built.
#[derive(Debug)]
pub enum BuildError {
    /// The trusted certificates cannot be read.
    Tls(TlsError),
    /// The operating system gives no randomness.
    Randomness(getrandom::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::Randomness(error) => {
                write!(f, "no randomness from the operating system: {error}")
            }
        }
    }
}

impl std::error::Error for BuildError {}

impl Gateway {
    /// Builds a gateway. Must be called within a runtime.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn new(policy: Policy) -> Result<Arc<Self>, BuildError> {
        let client = Client::new(&policy.upstream.client).map_err(BuildError::Tls)?;
        Self::with_client(policy, client)
    }

    /// Builds a gateway on a client that is already there, which may be a model.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn with_client(policy: Policy, client: Client) -> Result<Arc<Self>, BuildError> {
        let limits = Arc::new(Limits::new(&policy.limits));
        let metrics = Arc::new(Metrics::new());
        let counters = Arc::clone(&metrics);
        let upstream = Upstream::new(client, Arc::clone(&limits), counters, &policy.upstream);
        Ok(Arc::new(Self {
            digest_key: DigestKey::random().map_err(BuildError::Randomness)?,
            hints: ClaimsCache::for_answers(policy.cache.max_entries),
            cache: Cache::new(policy.cache),
            flights: Flights::new(),
            upstream,
            limits,
            metrics,
            contradicting: Mutex::default(),
            policy: ArcSwap::from_pointee(policy),
        }))
    }

    /// Answers one request that came in at a listener, which may be one region's.
    ///
    /// Dropping the future leaves the request; see the module's documentation.
    pub async fn handle<B>(
        self: &Arc<Self>,
        request: Request<B>,
        listener: Option<Region>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (response, record) = self.recorded(request, listener).await;
        record.finish(response.status());
        response
    }

    /// The same, with the record of what it took, still to be finished.
    pub async fn recorded<B>(
        self: &Arc<Self>,
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
            .answer(&policy, parts, body, listener, &mut record)
            .await;
        let id = record.id.header();
        let response = match outcome {
            Ok(Reply::Stored(entry, at)) => {
                let cache = hit(&entry, at);
                record.cache = Some(cache);
                entry.answer.to_response(ResponseStamp {
                    request_id: id,
                    cache_status: cache.header(),
                    age_seconds: Some(entry.age(at).as_secs()),
                })
            }
            Ok(Reply::Called(answer, cache)) => answer.to_response(ResponseStamp {
                request_id: id,
                cache_status: cache.header(),
                age_seconds: None,
            }),
            Ok(Reply::Streamed(response)) => stamped(response, id, record.cache),
            Err(error) => {
                record.error = Some(error.kind());
                // What was never tried did not go forward (RFC 9211 §2.2).
                record.cache = record.cache.filter(|_| !error.kind().is_refusal());
                stamped(error.to_response().map(body::whole), id, record.cache)
            }
        };
        (response, record)
    }

    /// Replaces the policy. Requests on their way keep the one they began with;
    /// cache and limits keep their state.
    pub fn reconfigure(&self, policy: Policy) {
        self.limits.reconfigure(&policy.limits);
        self.upstream.reconfigure(&policy.upstream);
        self.policy.store(Arc::new(policy));
    }

    /// The policy of requests that begin now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The cache, for looking at and for sweeping.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The quotas, for looking at.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The way to Alexa, for looking at.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// How many flights are in the air, and how many requests wait for them.
    #[must_use]
    pub fn flights(&self) -> (usize, usize) {
        (self.flights.in_flight(), self.flights.waiting())
    }

    /// The steps, in order.
    async fn answer<B>(
        self: &Arc<Self>,
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
        let credentials = caller.token.take().map(|token| {
            let digest = token.digest(&self.digest_key);
            Credentials { token, digest }
        });
        let hints = match &credentials {
            Some(Credentials { token, digest }) => self.hints.hints(token, digest),
            None => UnverifiedClaims::default(),
        };
        record.skill.clone_from(&hints.skill);
        let route = route(policy, &caller, &hints, &parts, listener)?;
        record.region = Some(route.region);
        record.template = Some(route.label());
        self.note_contradiction(&route, hints.skill.as_ref());
        let limits = &policy.deadline;
        let answer_by = caller
            .timeout
            .map(|asked| record.started + asked.min(limits.max));
        let deadline = answer_by.unwrap_or(record.started + limits.default);
        let ask = Ask {
            parts,
            route,
            credentials,
            hints,
            deadline,
            answer_by,
        };
        let fetched = ask.parts.method == Method::GET && ask.credentials.is_some();
        // What a hit has no part in is boxed, here and below: a connection keeps room
        // for the future of its requests, and each request is moved into it.
        match ask.route.rule.clone().filter(|_| fetched) {
            Some(rule) => self.fetch(policy, ask, &rule, body, record).await,
            None => Box::pin(self.relay(policy, ask, body, record))
                .await
                .map(Reply::Streamed),
        }
    }

    /// Answers a GET of a cached template.
    async fn fetch<B>(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        ask: Ask,
        rule: &Arc<Rule>,
        body: B,
        record: &mut Record,
    ) -> Result<Reply, Error>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        record.family = Some(Family::Profile);
        // A hit takes no time, so it needs no clock of its own.
        let mut now = record.started;
        if !body.is_end_stream() {
            let limit = policy.max_discarded_body_bytes;
            Box::pin(request::discard(body, limit, ask.deadline)).await?;
            now = Instant::now();
        }
        let directives = RequestDirectives::parse(&ask.parts.headers);
        let Some(key) = self.key_of(&ask) else {
            return Err(Error::new(
                Kind::Internal,
                "a cached template without credentials",
            ));
        };
        let (forward, mode, fallback) = match self.cache.lookup(&key, &directives, now) {
            Lookup::Hit { entry, revalidate } => {
                if revalidate {
                    self.revalidate(policy, &ask, rule, key);
                }
                return Ok(Reply::Stored(entry, now));
            }
            Lookup::Fetch {
                forward,
                mode,
                fallback,
            } => (forward, mode, fallback),
            Lookup::OnlyIfCached => {
                record.cache = Some(CacheStatus::NotCached);
                return Err(Error::new(
                    Kind::NotCached,
                    "only-if-cached, and nothing usable is stored",
                ));
            }
        };
        record.cache = Some(CacheStatus::forwarded(forward));
        let landed = Box::pin(self.fly(policy, &ask, rule, (key, mode), record)).await;
        match (landed, fallback) {
            (landed, Some(fallback)) if flight::is_failure(&landed) => {
                Ok(Reply::Stored(fallback, Instant::now()))
            }
            (Ok(Landed::InCache(entry)), _) => Ok(Reply::Stored(entry, Instant::now())),
            (Ok(Landed::Called { outcome, .. }), _) => {
                let cache = record.cache.unwrap_or(CacheStatus::forwarded(forward));
                outcome.map(|answer| Reply::Called(answer, cache))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Joins or starts the flight, and waits until it lands or the caller's own
    /// deadline passes. So many flights had landed before the cache was looked into.
    async fn fly(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        ask: &Ask,
        rule: &Arc<Rule>,
        key: FlightKey,
        record: &mut Record,
    ) -> Result<Landed, Error> {
        // A flight's own deadline is the usual one at least, for others may join.
        // Whoever wants to wait for less learns at once if that cannot do.
        let usual = record.started + policy.deadline.default;
        if ask.deadline < usual && !self.flights.is_in_flight(&key) {
            let skill = ask.hints.skill.as_ref();
            let (region, family) = (ask.route.region, Family::Profile);
            let fits = self.limits.check(region, family, skill, ask.deadline);
            fits.map_err(upstream::refused)?;
        }
        let waiter = self.join(policy, ask, rule, key, ask.deadline.max(usual), false)?;
        let collapsed = waiter.collapsed();
        let landed = waiter.landed_by(ask.deadline).await;
        let landed = landed.map_err(|error| match error {
            NotLanded::Lost => Error::new(Kind::Internal, error.to_string()),
            NotLanded::DeadlinePassed => {
                let seconds = (ask.deadline - record.started).as_secs_f64();
                Error::new(Kind::Deadline, format!("no answer within {seconds}s"))
            }
        })?;
        if let (
            Landed::Called {
                outcome,
                stored,
                stats,
            },
            Some(CacheStatus::Forwarded { forward, .. }),
        ) = (&landed, record.cache)
        {
            let status = outcome.as_ref().ok().map(StoredResponse::status);
            record.cache = Some(CacheStatus::Forwarded {
                forward,
                status,
                collapsed,
                stored: *stored,
            });
            record.stats = *stats;
        }
        Ok(landed)
    }

    /// Starts a flight that nobody waits for, unless there is one.
    fn revalidate(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        ask: &Ask,
        rule: &Arc<Rule>,
        key: CacheKey,
    ) {
        let deadline = Instant::now() + policy.deadline.default;
        // It must not find what it is to replace. Too many waiters are no failure: the
        // stored response is good enough meanwhile.
        let key = (key, FetchMode::Anew);
        self.join(policy, ask, rule, key, deadline, true).ok();
    }

    fn join(
        self: &Arc<Self>,
        policy: &Arc<Policy>,
        ask: &Ask,
        rule: &Arc<Rule>,
        key: FlightKey,
        deadline: Instant,
        in_background: bool,
    ) -> Result<Waiter<FlightKey, Landed>, Error> {
        let uri = policy
            .routes
            .upstream(ask.route.region)
            .join(&ask.route.target);
        let uri = uri.map_err(|_| Error::new(Kind::BadRequest, UNACCEPTABLE))?;
        let start = |interest| {
            let (gateway, policy) = (Arc::clone(self), Arc::clone(policy));
            let flight = Flight {
                call: call(ask, uri, flight::headers(&ask.parts)),
                rule: Arc::clone(rule),
                key,
                expires_at: ask.hints.expires_at,
                deadline,
                in_background,
            };
            async move {
                let Self {
                    cache, upstream, ..
                } = &*gateway;
                flight
                    .run(cache, upstream, &policy.upstream, interest)
                    .await
            }
        };
        self.flights
            .join(key, deadline, &policy.coalesce, start)
            .map_err(|_| {
                let error = Error::new(
                    Kind::TooManyWaiters,
                    "too many requests wait for calls in flight",
                );
                error.retry_after(Duration::from_secs(1))
            })
    }

    /// Passes a request through: any method, streamed, sent once.
    async fn relay<B>(
        &self,
        policy: &Policy,
        ask: Ask,
        body: B,
        record: &mut Record,
    ) -> Result<Response<Body>, Error>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        record.family = Some(Family::Passthrough);
        let forward = match ask.route.rule {
            Some(_) if ask.parts.method != Method::GET => Forward::Method,
            _ => Forward::Bypass,
        };
        record.cache = Some(CacheStatus::forwarded(forward));
        let mut headers = ask.parts.headers.clone();
        add_via(&mut headers, ask.parts.version);
        // CloudFront answers a GET that has a body with an HTML 403.
        let bodiless = matches!(ask.parts.method, Method::GET | Method::HEAD);
        let body = if bodiless {
            let limit = policy.max_discarded_body_bytes;
            request::discard(body, limit, ask.deadline).await?;
            headers.remove(CONTENT_LENGTH);
            body::none()
        } else {
            body::stream(body, policy.upstream.relay.body_idle_timeout)
        };
        let uri = policy
            .routes
            .upstream(ask.route.region)
            .join(&ask.route.target);
        let uri = uri.map_err(|_| Error::new(Kind::BadRequest, UNACCEPTABLE))?;
        let call = call(&ask, uri, headers);
        let due = (ask.deadline, ask.answer_by);
        let relayed = self
            .upstream
            .relay(&call, &policy.upstream, body, due, &mut record.stats)
            .await;
        let response = relayed?;
        let (status, collapsed, stored) = (Some(response.status()), false, None);
        record.cache = Some(CacheStatus::Forwarded {
            forward,
            status,
            collapsed,
            stored,
        });
        Ok(response)
    }

    fn key_of(&self, ask: &Ask) -> Option<CacheKey> {
        let credentials = &ask.credentials.as_ref()?.digest;
        let Route { region, target, .. } = &ask.route;
        Some(CacheKey::of(
            &self.digest_key,
            *region,
            target,
            &ask.parts.headers,
            credentials,
        ))
    }

    fn note_contradiction(&self, route: &Route, skill: Option<&SkillId>) {
        let Some(meant) = route.contradicts_audience else {
            return;
        };
        self.metrics.contradiction(route.region);
        let mut logged = self
            .contradicting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if logged.len() < MAX_CONTRADICTING && logged.insert(skill.cloned()) {
            drop(logged);
            tracing::warn!(
                skill = skill.map(SkillId::as_str),
                region = route.region.name(),
                decided_by = route.decider.label(),
                token_region = meant.name(),
                "the request names one region and its token another; Alexa will refuse it"
            );
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

const UNACCEPTABLE: &str = "the path is too long";

fn route(
    policy: &Policy,
    caller: &Caller,
    hints: &UnverifiedClaims,
    parts: &Parts,
    listener: Option<Region>,
) -> Result<Route, Error> {
    let evidence = Evidence {
        api_endpoint: caller.api_endpoint.as_deref(),
        absolute_form: caller.absolute_form.as_deref(),
        host: caller.host.as_ref().and_then(|host| host.to_str().ok()),
        listener,
        audience: hints.audience.as_deref(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        target: parts.uri.path_and_query(),
    };
    policy.routes.route(&evidence).map_err(|error| match error {
        RouteError::Misdirected(what) => {
            Error::new(Kind::Misdirected, format!("{what} names no Alexa region"))
        }
        RouteError::BadPath(bad) => Error::new(Kind::BadRequest, bad.to_string()),
    })
}

fn call(ask: &Ask, uri: Uri, mut headers: HeaderMap) -> Call {
    headers.remove(HOST);
    Call {
        region: ask.route.region,
        uri,
        skill: ask.hints.skill.clone(),
        method: ask.parts.method.clone(),
        headers,
        token: ask.credentials.as_ref().map(|c| c.token.clone()),
    }
}

/// What the cache did for a request that is answered with `entry`.
fn hit(entry: &Entry, at: Instant) -> CacheStatus {
    let resident = entry.resident(at);
    let fresh = entry.lifetime().fresh;
    match fresh.checked_sub(resident) {
        Some(left) => CacheStatus::Hit(left),
        None => CacheStatus::HitStale(resident - fresh),
    }
}

/// Says what the gateway has to say of a response.
fn stamped(
    mut response: Response<Body>,
    id: HeaderValue,
    cache: Option<CacheStatus>,
) -> Response<Body> {
    let headers = response.headers_mut();
    if let Some(cache) = cache {
        headers.append(CACHE_STATUS, cache.header());
    }
    headers.insert(REQUEST_ID, id);
    response
}
