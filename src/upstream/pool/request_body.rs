//! The body of a request, with an error type of its own.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::body::{Body, BoxError};

/// A body to send. hyper accepts any body whose error converts into a `Box<dyn Error>`.
/// If the error *is* such a box, the compiler cannot prove that a future holding the
/// connection is `Send` (rust-lang/rust#102211), hence [`RequestBodyError`].
pub(super) struct RequestBody(pub(super) Body);

/// The caller's body failed.
#[derive(Debug, thiserror::Error)]
#[error("the request body failed")]
pub(super) struct RequestBodyError(#[source] BoxError);

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(RequestBodyError)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
