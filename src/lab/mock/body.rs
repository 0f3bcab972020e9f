//! Bodies: responses are sent at once, slowly or not to their end; requests are
//! reduced to a length and a hash.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

/// The pieces of a slow response: enough to split names within characters.
const PIECES: usize = 8;

/// The pause before each piece of a slow response: 0.4 s in all, less than the
/// time-outs of clients.
const PAUSE: Duration = Duration::from_millis(50);

/// The time for the first half of a cut response to reach the client before the
/// connection is closed.
const BEFORE_CUT: Duration = Duration::from_millis(20);

/// The body of a response, as the steps in which it is sent.
pub(super) struct PacedBody {
    /// Declared bytes that are not sent yet.
    left: u64,
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
}

enum Step {
    Send(Bytes),
    Wait(Duration),
    Cut,
}

/// Ends a response that is cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut on purpose")]
pub(super) struct CutShort;

impl PacedBody {
    /// Sends everything at once.
    pub(super) fn whole(body: Bytes) -> Self {
        let left = body.len() as u64;
        let steps = [body].into_iter().filter(|body| !body.is_empty());
        Self::new(left, steps.map(Step::Send))
    }

    /// Sends eight pieces, with a pause before each; characters may be split.
    pub(super) fn slow(body: Bytes) -> Self {
        let left = body.len() as u64;
        let bounds = (0..PIECES).map(|n| n * body.len() / PIECES..(n + 1) * body.len() / PIECES);
        let pieces = bounds.map(|bounds| Step::Send(body.slice(bounds)));
        Self::new(left, pieces.flat_map(|piece| [Step::Wait(PAUSE), piece]))
    }

    /// Declares the full length, sends half and fails.
    pub(super) fn cut(body: Bytes) -> Self {
        let left = body.len() as u64;
        let half = body.slice(..body.len() / 2);
        Self::new(left, [Step::Send(half), Step::Wait(BEFORE_CUT), Step::Cut])
    }

    fn new(left: u64, steps: impl IntoIterator<Item = Step>) -> Self {
        let steps = steps.into_iter().collect();
        Self {
            left,
            steps,
            pause: None,
        }
    }
}

impl Body for PacedBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Wait(time)) => self.pause = Some(Box::pin(sleep(time))),
                Some(Step::Cut) => return Poll::Ready(Some(Err(CutShort))),
                Some(Step::Send(piece)) => {
                    self.left -= piece.len() as u64;
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    /// hyper sends this as `Content-Length`.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The body of a request, by length and hash.
#[derive(Debug)]
pub(super) struct BodyDigest {
    pub(super) bytes: u64,
    pub(super) hash: blake3::Hash,
}

impl BodyDigest {
    /// Reads a body to its end and discards it.
    ///
    /// # Errors
    ///
    /// The client closed the connection early.
    pub(super) async fn read(mut body: Incoming) -> hyper::Result<Self> {
        let (mut bytes, mut hash) = (0, blake3::Hasher::new());
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                bytes += data.len() as u64;
                hash.update(data);
            }
        }
        let hash = hash.finalize();
        Ok(Self { bytes, hash })
    }
}
