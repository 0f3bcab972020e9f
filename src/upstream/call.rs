//! One call to upstream, and what it took.

use std::time::Duration;

use bytes::Bytes;
use http::uri::Uri;
use http::{HeaderMap, Method, Request, Response};

use crate::body::Body;
use crate::region::Region;
use crate::token::{BearerToken, SkillId};

/// A call, to be attempted once or several times.
#[derive(Clone, Debug)]
pub struct Call {
    /// The region, for quotas and metrics.
    pub region: Region,
    /// The absolute URI.
    pub uri: Uri,
    /// The skill whose quota it counts against.
    pub skill: Option<SkillId>,
    /// The method.
    pub method: Method,
    /// The end-to-end headers, without the credentials.
    pub headers: HeaderMap,
    /// The credentials.
    pub token: Option<BearerToken>,
}

/// A complete response, as upstream sent it.
pub type BufferedResponse = Response<Bytes>;

/// What a call took, whether it succeeded or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallStats {
    /// How many times it was sent.
    pub attempts: u32,
    /// How long it waited for permits.
    pub queue_wait: Duration,
    /// How long upstream took, over all attempts.
    pub upstream_time: Duration,
}

impl Call {
    /// The request of one attempt.
    pub(super) fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}
