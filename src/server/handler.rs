//! What the connections of one listener share: its request handler, time limits and
//! protocol settings.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::activity::Activity;
use super::timeouts::Timeouts;
use super::tracked::{TrackedBody, TrackedResponse};
use crate::body::BoxError;

/// A request whose body may still be arriving. It is in flight until that is dropped.
pub(super) type IncomingRequest = Request<TrackedBody<Incoming>>;

/// Responds to requests.
pub(super) trait Handler: Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;
    type Response: Future<Output = Response<Self::Body>> + Send + 'static;

    fn handle(&self, request: IncomingRequest) -> Self::Response;
}

impl<H, F, B> Handler for H
where
    H: Fn(IncomingRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    type Body = B;
    type Response = F;

    fn handle(&self, request: IncomingRequest) -> F {
        self(request)
    }
}

/// What the connections of one listener have in common.
pub(super) struct ListenerShared<H> {
    pub(super) timeouts: Timeouts,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<TokioExecutor>,
    handler: H,
}

impl<H> ListenerShared<H> {
    pub(super) fn new(timeouts: Timeouts, handler: H) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // The idle monitor limits the time of heads without a timer for each.
            .header_read_timeout(None)
            .max_buf_size(MAX_HEAD_BYTES)
            .writev(false);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(timeouts.idle / 2))
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES as u32);
        Self {
            timeouts,
            http1,
            http2,
            handler,
        }
    }
}

impl<H: Handler> ListenerShared<H> {
    /// Responds to a request, which counts as in flight until both bodies have ended.
    pub(super) fn respond(
        &self,
        activity: &Arc<Activity>,
        request: Request<Incoming>,
    ) -> TrackedResponse<H::Response> {
        let in_flight = activity.begin_request();
        // Most requests have no body, and then the response alone counts.
        let has_body = !request.body().is_end_stream();
        let request =
            request.map(|body| TrackedBody::new(body, has_body.then(|| activity.begin_part())));
        TrackedResponse::new(self.handler.handle(request), in_flight)
    }
}

/// A token may have 8 KiB; all other headers of a skill fit in what is left.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 1000;
