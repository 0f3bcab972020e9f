//! An Alexa whose answers a test writes itself, and which remembers what it was
//! asked. For answers that depend on tokens, quotas and chance there is
//! `alexa_gateway::lab::mock`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use alexa_gateway::region::Region;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// One request as the fake saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) region: Region,
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Three regions on three ports. Dropping it closes them.
pub(crate) struct FakeAlexa {
    addresses: [SocketAddr; 3],
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl FakeAlexa {
    /// Answers each request, read whole, by what `answer` makes of it.
    pub(crate) async fn start<A, F>(answer: A) -> Self
    where
        A: Fn(Seen) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let answer = Arc::new(answer);
        Self::start_raw(seen, move |region, request: Request<Incoming>| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            Box::pin(async move {
                let (parts, body) = request.into_parts();
                let body = body
                    .collect()
                    .await
                    .map(|body| body.to_bytes())
                    .unwrap_or_default();
                let seen = Seen {
                    region,
                    method: parts.method,
                    target: parts.uri.path_and_query().unwrap().to_string(),
                    headers: parts.headers,
                    body,
                };
                log.lock().push(seen.clone());
                answer(seen).await
            })
        })
        .await
    }

    /// Answers each request by what `answer` makes of it, unread.
    pub(crate) async fn streaming<A, F>(answer: A) -> Self
    where
        A: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_raw(Arc::default(), move |_, request| Box::pin(answer(request))).await
    }

    async fn start_raw(
        seen: Arc<Mutex<Vec<Seen>>>,
        answer: impl Fn(Region, Request<Incoming>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        let mut tasks = JoinSet::new();
        let mut addresses = Vec::new();
        for region in Region::ALL {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let answer = Arc::clone(&answer);
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let answer = Arc::clone(&answer);
                    let service = service_fn(move |request| {
                        let answering = answer(region, request);
                        async move { Ok::<_, Infallible>(answering.await) }
                    });
                    connections.spawn(async move {
                        let builder = auto::Builder::new(TokioExecutor::new());
                        // A client that leaves breaks its connection; that is its right.
                        builder
                            .serve_connection(TokioIo::new(stream), service)
                            .await
                            .ok();
                    });
                }
            });
        }
        Self {
            addresses: addresses.try_into().unwrap(),
            seen,
            _tasks: tasks,
        }
    }

    pub(crate) fn address(&self, region: Region) -> SocketAddr {
        self.addresses[region.index()]
    }

    /// The sections that make a gateway call this fake.
    pub(crate) fn config(&self) -> String {
        upstreams(|region| self.address(region))
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }
}

/// The sections that make a gateway call these addresses.
pub(crate) fn upstreams(address: impl Fn(Region) -> SocketAddr) -> String {
    let section = |region| {
        format!(
            "[regions.{region}]\nupstream = 'http://{}'\n",
            address(region)
        )
    };
    Region::ALL.map(section).concat()
}

/// A JSON answer.
pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status.try_into().unwrap();
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

/// An answer without a body.
pub(crate) fn empty(status: u16) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status.try_into().unwrap();
    response
}

pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
