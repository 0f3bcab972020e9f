//! One whole answer, as it is stored, shared between waiters, and sent.

use std::fmt;

use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, EXPIRES, PRAGMA, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::{self, Body};
use crate::request::strip_hop_by_hop;

/// Status, end-to-end headers and body of an answer to a cached template. Body
/// and content type are upstream's, byte for byte.
#[derive(Clone)]
pub struct Answer {
    /// Upstream's status.
    pub status: StatusCode,
    /// The headers, ready to be sent to any number of clients.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Makes an answer of what upstream sent. Cookies are dropped, for they would
    /// be replayed, and so is what upstream says about caching, for it was said
    /// to us: clients are told to store nothing.
    #[must_use]
    pub fn new(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Self {
        strip_hop_by_hop(&mut headers);
        for name in [SET_COOKIE, AGE, EXPIRES, PRAGMA, CONTENT_LENGTH] {
            headers.remove(name);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self {
            status,
            headers,
            body,
        }
    }

    /// A response of its own for one client.
    #[must_use]
    pub fn to_response(&self) -> Response<Body> {
        let mut response = Response::new(body::whole(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

impl fmt::Debug for Answer {
    /// Without headers and body, which are personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
