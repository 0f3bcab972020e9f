//! Bodies: whole ones, and streams that may not stall.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Either, Full};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

/// Why a stream broke.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A body in either direction: whole, or a stream.
pub type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, BoxError>>;

/// A whole body. It leaves in one write with its head, and with a length.
#[must_use]
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(bytes.into()))
}

/// No body, ended already; for where a stream might have been.
#[must_use]
pub fn none() -> (Body, oneshot::Receiver<()>) {
    (whole(Bytes::new()), oneshot::channel().1)
}

/// A stream that is relayed frame by frame, trailers included, no faster than it
/// is read, and that fails when its source stalls for `idle_timeout`. The
/// receiver completes when the stream has ended, in any way.
pub fn stream<B>(source: B, idle_timeout: Duration) -> (Body, oneshot::Receiver<()>)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (ended, has_ended) = oneshot::channel();
    let timer = Box::pin(sleep(idle_timeout));
    let ended = Some(ended).filter(|_| !source.is_end_stream());
    let body = Guarded {
        source,
        idle_timeout,
        timer,
        waiting: false,
        ended,
    };
    (Either::Right(body.boxed_unsync()), has_ended)
}

/// A stream that may not stall.
struct Guarded<B> {
    source: B,
    idle_timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// The source was asked and had nothing; a reader that does not ask is not
    /// the source's fault.
    waiting: bool,
    ended: Option<oneshot::Sender<()>>,
}

impl<B> HttpBody for Guarded<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.source).poll_frame(cx) {
            this.waiting = false;
            if frame.is_none() || this.source.is_end_stream() {
                this.ended.take();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !this.waiting {
            this.waiting = true;
            this.timer
                .as_mut()
                .reset(Instant::now() + this.idle_timeout);
        }
        ready!(this.timer.as_mut().poll(cx));
        this.ended.take();
        let stalled = format!("no data for {}s", this.idle_timeout.as_secs_f64());
        Poll::Ready(Some(Err(stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tokio::sync::mpsc;

    type Item = Result<Frame<Bytes>, Infallible>;

    struct Channel(mpsc::Receiver<Item>);

    impl HttpBody for Channel {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
            self.0.poll_recv(cx)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_source_fails_the_stream() {
        let (send, receive) = mpsc::channel(1);
        let (mut body, ended) = stream(Channel(receive), Duration::from_secs(5));
        send.send(Ok(Frame::data(Bytes::from_static(b"a"))))
            .await
            .unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        let before = Instant::now();
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(before.elapsed().as_secs(), 5);
        assert!(ended.await.is_err(), "the sender is dropped at the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_a_stalled_source() {
        let (send, receive) = mpsc::channel(4);
        let (mut body, _ended) = stream(Channel(receive), Duration::from_secs(5));
        for _ in 0..3 {
            send.send(Ok(Frame::data(Bytes::from_static(b"a"))))
                .await
                .unwrap();
            tokio::time::advance(Duration::from_secs(60)).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
        drop(send);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn trailers_are_relayed() {
        let (send, receive) = mpsc::channel(2);
        let (mut body, _ended) = stream(Channel(receive), Duration::from_secs(5));
        send.send(Ok(Frame::data(Bytes::from_static(b"a"))))
            .await
            .unwrap();
        send.send(Ok(Frame::trailers(http::HeaderMap::new())))
            .await
            .unwrap();
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
    }
}
