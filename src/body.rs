//! Message bodies: buffered ones, and streams that fail when they stall.

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

/// Why a stream failed.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A body in either direction: buffered or streamed.
pub type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, BoxError>>;

/// A body that is relayed while its progress can be watched.
pub struct Streamed {
    /// The body to send.
    pub body: Body,
    /// How its source is doing.
    pub progress: Progress,
}

/// A buffered body. It is written together with its head, and has a length.
#[must_use]
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(bytes.into()))
}

/// An empty body where a stream is expected.
#[must_use]
pub fn none() -> Streamed {
    let (_, progress) = watch::channel(Flow::Moved(Instant::now()));
    Streamed {
        body: whole(Bytes::new()),
        progress: Progress(progress),
    }
}

/// Relays `source` frame by frame, trailers included, as fast as it is read. The
/// stream fails when its source yields nothing for `idle_timeout` while it is read.
pub fn stream<B>(source: B, idle_timeout: Duration) -> Streamed
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
    Streamed {
        body: Either::Right(body.boxed_unsync()),
        progress: Progress(progress),
    }
}

/// The last event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// It yielded a frame or its end, at this time.
    Moved(Instant),
    /// Its source failed.
    Broke,
    /// Its source yielded nothing for the idle time-out.
    Stalled,
}

/// Watches a stream from outside.
#[derive(Debug)]
pub struct Progress(watch::Receiver<Flow>);

/// What is wrong with the source of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was cut short, or is not a valid body.
    Broke,
    /// It yielded nothing for the idle time-out.
    Stalled,
}

impl Progress {
    /// Completes when no frame has been read from the stream for `span`: it has
    /// ended, or nobody reads it.
    pub async fn still_for(&mut self, span: Duration) {
        loop {
            let Flow::Moved(last) = *self.0.borrow_and_update() else {
                return;
            };
            match timeout_at(last + span, self.0.changed()).await {
                Ok(Ok(())) => {}
                // The stream was dropped; its last event still counts.
                Ok(Err(_)) => return sleep_until(last + span).await,
                Err(_) => return,
            }
        }
    }

    /// The fault of the source, if it has one.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match *self.0.borrow() {
            Flow::Moved(_) => None,
            Flow::Broke => Some(Fault::Broke),
            Flow::Stalled => Some(Fault::Stalled),
        }
    }
}

/// A stream that fails when its source stalls.
struct Guarded<B> {
    source: B,
    idle_timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// The source has been polled and has not yielded since. A reader that does not
    /// poll is not a stalled source.
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
        let Streamed { mut body, progress } = stream(Channel(receive), Duration::from_secs(5));
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
        let mut body = stream(Channel(receive), Duration::from_secs(5)).body;
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
        let mut body = stream(Channel(receive), Duration::from_secs(5)).body;
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
    async fn a_stream_is_still_when_nobody_reads_it_and_after_its_end() {
        let second = Duration::from_secs(1);
        let (send, receive) = mpsc::channel(4);
        let Streamed {
            mut body,
            mut progress,
        } = stream(Channel(receive), 60 * second);
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
