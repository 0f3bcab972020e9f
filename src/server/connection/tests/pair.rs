//! A connection and its client: the two ends of a pipe, and what answers.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::super::serve;
use crate::server::handler::{IncomingRequest, ListenerShared};
use crate::server::sniff::PREFACE;
use crate::server::stop::StopSwitch;
use crate::server::timeouts::Timeouts;
use crate::server::tracked::TrackedBody;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A stream that notes how much it was last asked for: a parked connection is asked for
/// a few bytes, one that hyper has for thousands.
struct Spied {
    stream: DuplexStream,
    room: Arc<AtomicUsize>,
}

impl AsyncRead for Spied {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.room.store(buf.remaining(), Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Spied {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Who answers: with the target that was asked for and the body that came.
#[derive(Default)]
pub(super) struct House {
    /// The targets, in the order in which they were asked for.
    pub(super) asked: Mutex<Vec<String>>,
    /// Lets a request for /slow be answered.
    pub(super) open: Notify,
    /// Requests for /leave, which are answered while their bodies are still there.
    pub(super) left: Mutex<Vec<TrackedBody<Incoming>>>,
}

impl House {
    pub(super) async fn answer(self: Arc<Self>, request: IncomingRequest) -> Response<Full<Bytes>> {
        let target = request.uri().path().to_owned();
        self.asked.lock().unwrap().push(target.clone());
        let body = request.into_body();
        let body = match target.as_str() {
            "/leave" => {
                self.left.lock().unwrap().push(body);
                Bytes::new()
            }
            "/large" => vec![b'x'; 1 << 20].into(),
            _ => body.collect().await.unwrap().to_bytes(),
        };
        if target == "/slow" {
            self.open.notified().await;
        }
        Response::new(Full::new([target.as_bytes(), b" ", &body].concat().into()))
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A connection and its client.
pub(super) struct Pair {
    pub(super) client: DuplexStream,
    pub(super) house: Arc<House>,
    pub(super) room: Arc<AtomicUsize>,
    pub(super) stop: StopSwitch,
    pub(super) served: JoinHandle<()>,
}

pub(super) const TIMEOUTS: Timeouts = Timeouts {
    request_head: Duration::from_secs(10),
    idle: Duration::from_secs(75),
    write: Duration::from_secs(30),
    drain: Duration::from_secs(10),
};

impl Pair {
    pub(super) fn new() -> Self {
        let house = Arc::new(House::default());
        let (client, stream) = duplex(64 * 1024);
        let room = Arc::default();
        let stop = StopSwitch::new();
        let handle = {
            let house = Arc::clone(&house);
            move |request| Arc::clone(&house).answer(request)
        };
        let shared = Arc::new(ListenerShared::new(TIMEOUTS, handle));
        let stream = Spied {
            stream,
            room: Arc::clone(&room),
        };
        let served = tokio::spawn(serve(stream, shared, stop.signal(), ()));
        Self {
            client,
            house,
            room,
            stop,
            served,
        }
    }

    /// One that has answered a request and is parked.
    pub(super) async fn parked() -> Self {
        let mut pair = Self::new();
        pair.send("GET /first HTTP/1.1\r\n\r\n").await;
        assert!(pair.answer().await.ends_with("/first "));
        pair.rest().await;
        assert!(pair.is_parked());
        pair
    }

    /// Lets a second pass, in which what can be parked is.
    pub(super) async fn rest(&self) {
        sleep(SECOND).await;
    }

    pub(super) fn is_parked(&self) -> bool {
        self.room.load(Ordering::Relaxed) <= PREFACE.len()
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.write_all(bytes.as_ref()).await.unwrap();
    }

    /// One answer, which ends with the target and the body that it answers.
    pub(super) async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            let more = self.client.read_buf(&mut bytes).await.unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_ne!(more, 0, "closed after {text:?}");
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head
                .split_once("content-length: ")
                .map_or("0", |(_, rest)| {
                    rest.split_whitespace().next().unwrap_or_default()
                });
            if body.len() == length.parse::<usize>().unwrap() {
                return text;
            }
        }
    }

    /// What comes until the connection is closed, and when that is.
    pub(super) async fn end(&mut self) -> (String, Duration) {
        let start = Instant::now();
        let mut bytes = Vec::new();
        self.client.read_to_end(&mut bytes).await.ok();
        (
            String::from_utf8_lossy(&bytes).into_owned(),
            start.elapsed(),
        )
    }
}
