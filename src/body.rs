//! Bodies: whole ones, and streams that may not stall.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Either, Full};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

/// Why a stream broke.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A body in either direction: whole, or a stream.
pub type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, BoxError>>;

/// A whole body. It leaves in one write with its head, and with a length.
#[must_use]
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(bytes.into()))
}

/// No body, for where a stream might have been.
#[must_use]
pub fn none() -> (Body, Progress) {
    (
        whole(Bytes::new()),
        Progress(watch::channel(Flow::Moved(Instant::now())).1),
    )
}

/// A stream that is relayed frame by frame, trailers included, no faster than it
/// is read, and that fails when its source stalls for `idle_timeout`. How it fares
/// can be watched from outside.
pub fn stream<B>(source: B, idle_timeout: Duration) -> (Body, Progress)
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (flow, progress) = watch::channel(Flow::Moved(Instant::now()));
    let timer = Box::pin(sleep(idle_timeout));
    let body = Guarded {
        source,
        idle_timeout,
        timer,
        waiting: false,
        flow,
    };
    (Either::Right(body.boxed_unsync()), Progress(progress))
}

/// What a stream did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// It gave a piece, or its end, at this moment.
    Moved(Instant),
    /// Its source failed.
    Broke,
    /// Its source had nothing for too long.
    Stalled,
}

/// How a stream fares.
#[derive(Debug)]
pub struct Progress(watch::Receiver<Flow>);

/// What is wrong with the source of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It broke off, or said something that is no body.
    Broke,
    /// It had nothing for too long.
    Stalled,
}

impl Progress {
    /// Completes when nothing has been taken out of the stream for `patience`,
    /// because it has ended or because nobody reads it.
    pub async fn still_for(&mut self, patience: Duration) {
        loop {
            let Flow::Moved(last) = *self.0.borrow_and_update() else {
                return;
            };
            match timeout_at(last + patience, self.0.changed()).await {
                Ok(Ok(())) => {}
                // The stream is gone; what it did last still counts.
                Ok(Err(_)) => return sleep_until(last + patience).await,
                Err(_) => return,
            }
        }
    }

    /// What is wrong with the source, if anything.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match *self.0.borrow() {
            Flow::Moved(_) => None,
            Flow::Broke => Some(Fault::Broke),
            Flow::Stalled => Some(Fault::Stalled),
        }
    }
}

/// A stream that may not stall.
struct Guarded<B> {
    source: B,
    idle_timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// The source was asked and had nothing; a reader that does not ask is not
    /// the source's fault.
    waiting: bool,
    flow: watch::Sender<Flow>,
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
            let broke = matches!(frame, Some(Err(_)));
            this.flow.send_replace(if broke {
                Flow::Broke
            } else {
                Flow::Moved(Instant::now())
            });
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !this.waiting {
            this.waiting = true;
            this.timer
                .as_mut()
                .reset(Instant::now() + this.idle_timeout);
        }
        ready!(this.timer.as_mut().poll(cx));
        this.flow.send_replace(Flow::Stalled);
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
        let (mut body, progress) = stream(Channel(receive), Duration::from_secs(5));
        send.send(Ok(Frame::data(Bytes::from_static(b"a"))))
            .await
            .unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        let before = Instant::now();
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(before.elapsed().as_secs(), 5);
        assert_eq!(progress.fault(), Some(Fault::Stalled));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_a_stalled_source() {
        let (send, receive) = mpsc::channel(4);
        let (mut body, _) = stream(Channel(receive), Duration::from_secs(5));
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
        let (mut body, _) = stream(Channel(receive), Duration::from_secs(5));
        send.send(Ok(Frame::data(Bytes::from_static(b"a"))))
            .await
            .unwrap();
        send.send(Ok(Frame::trailers(http::HeaderMap::new())))
            .await
            .unwrap();
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_reads_is_noticed_and_so_is_its_end() {
        let second = Duration::from_secs(1);
        let (send, receive) = mpsc::channel(4);
        let (mut body, mut progress) = stream(Channel(receive), 60 * second);
        let start = Instant::now();
        for n in 1..=3 {
            tokio::time::advance(second).await;
            send.send(Ok(Frame::data(Bytes::from_static(b"a"))))
                .await
                .unwrap();
            assert!(body.frame().await.unwrap().is_ok(), "{n}");
        }
        progress.still_for(5 * second).await;
        assert_eq!(start.elapsed(), 8 * second);
        drop(body);
        progress.still_for(6 * second).await;
        assert_eq!(start.elapsed(), 9 * second);
        assert_eq!(progress.fault(), None);
    }
}
