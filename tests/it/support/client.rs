//! A client that keeps its connections, and answers that assert in words.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::within;

/// Calls one address.
#[derive(Clone)]
pub(crate) struct Client {
    pool: legacy::Client<HttpConnector, Full<Bytes>>,
    base: String,
}

/// One request to be sent.
pub(crate) struct Ask<'a> {
    client: &'a Client,
    method: Method,
    target: String,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let pool = legacy::Client::builder(TokioExecutor::new()).build_http();
        Self {
            pool,
            base: format!("http://{address}"),
        }
    }

    /// The same over HTTP/2 without TLS.
    pub(crate) fn h2c(address: SocketAddr) -> Self {
        let pool = legacy::Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        Self {
            pool,
            base: format!("http://{address}"),
        }
    }

    pub(crate) fn get(&self, target: &str) -> Ask<'_> {
        self.ask(Method::GET, target)
    }

    pub(crate) fn ask(&self, method: Method, target: &str) -> Ask<'_> {
        Ask {
            client: self,
            method,
            target: target.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }
}

impl Ask<'_> {
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().unwrap());
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> Reply {
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = format!("{}{}", self.client.base, self.target)
            .parse()
            .unwrap();
        *request.headers_mut() = self.headers;
        within("a request", async {
            let response = self.client.pool.request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Reply {
                status: parts.status,
                headers: parts.headers,
                body,
            }
        })
        .await
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn cache_status(&self) -> &str {
        self.header("cache-status")
    }

    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn expect_hit(self) -> Self {
        assert!(
            self.cache_status().starts_with("alexa-gateway; hit"),
            "{self:?}"
        );
        assert!(self.headers.contains_key("age"), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn expect_forwarded(self, why: &str) -> Self {
        let start = format!("alexa-gateway; fwd={why}");
        assert!(self.cache_status().starts_with(&start), "{start}: {self:?}");
        self
    }

    /// An error that the gateway made itself, in the shape that SDKs understand.
    #[track_caller]
    pub(crate) fn expect_own_error(self, status: u16, proxy_error: &str) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.header("content-length"), self.body.len().to_string());
        assert_eq!(self.json()["code"], "UNKNOWN_ERROR");
        let start = format!("alexa-gateway; error={proxy_error}; details=\"");
        assert!(
            self.header("proxy-status").starts_with(&start),
            "{start}: {self:?}"
        );
        self
    }
}
