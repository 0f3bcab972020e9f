//! Responses and bodies that keep their request in flight until they end.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::activity::InFlight;

pin_project! {
    /// The future of a response. Its request is in flight until the last byte of the
    /// response body.
    pub(super) struct TrackedResponse<F> {
        #[pin]
        response: F,
        request: Option<InFlight>,
    }
}

impl<F> TrackedResponse<F> {
    pub(super) fn new(response: F, request: InFlight) -> Self {
        Self {
            response,
            request: Some(request),
        }
    }
}

impl<F: Future<Output = Response<B>>, B> Future for TrackedResponse<F> {
    type Output = Result<Response<TrackedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(cx));
        let request = this.request.take();
        Poll::Ready(Ok(response.map(|body| TrackedBody::new(body, request))))
    }
}

/// A body that keeps its request in flight until it is dropped.
pub(super) struct TrackedBody<B> {
    // Dropped in this order: hyper knows of the end before the request is over.
    body: B,
    _request: Option<InFlight>,
}

impl<B> TrackedBody<B> {
    pub(super) fn new(body: B, request: Option<InFlight>) -> Self {
        Self {
            body,
            _request: request,
        }
    }
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
