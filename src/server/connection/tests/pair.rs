//! A connection and its client: the two ends of a pipe, and a handler that echoes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
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

/// A stream that records the size of the last read buffer: a few bytes while the
/// connection is parked, thousands while hyper has it.
struct ReadSpy {
    stream: DuplexStream,
    read_size: Arc<AtomicUsize>,
}

impl AsyncRead for ReadSpy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.read_size.store(buf.remaining(), Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ReadSpy {
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

/// Responds with the target and the body of each request.
#[derive(Default)]
pub(super) struct EchoHandler {
    /// The targets of all requests, in order.
    pub(super) targets: Mutex<Vec<String>>,
    /// Lets a request for /slow get its response.
    pub(super) open: Notify,
    /// Bodies of requests for /leave, which get their response before the body ends.
    pub(super) bodies: Mutex<Vec<TrackedBody<Incoming>>>,
}

impl EchoHandler {
    pub(super) async fn respond(
        self: Arc<Self>,
        request: IncomingRequest,
    ) -> Response<Full<Bytes>> {
        let target = request.uri().path().to_owned();
        self.targets.lock().push(target.clone());
        let body = request.into_body();
        let body = match target.as_str() {
            "/leave" => {
                self.bodies.lock().push(body);
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

    pub(super) fn targets(&self) -> Vec<String> {
        self.targets.lock().clone()
    }
}

/// A connection and its client.
pub(super) struct Pair {
    pub(super) client: DuplexStream,
    pub(super) handler: Arc<EchoHandler>,
    pub(super) read_size: Arc<AtomicUsize>,
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
        let handler = Arc::new(EchoHandler::default());
        let (client, stream) = duplex(64 * 1024);
        let read_size = Arc::default();
        let stop = StopSwitch::new();
        let handle = {
            let handler = Arc::clone(&handler);
            move |request| Arc::clone(&handler).respond(request)
        };
        let shared = Arc::new(ListenerShared::new(TIMEOUTS, handle));
        let stream = ReadSpy {
            stream,
            read_size: Arc::clone(&read_size),
        };
        let served = tokio::spawn(serve(stream, shared, stop.signal(), ()));
        Self {
            client,
            handler,
            read_size,
            stop,
            served,
        }
    }

    /// A pair that has served a request and is parked.
    pub(super) async fn parked() -> Self {
        let mut pair = Self::new();
        pair.send("GET /first HTTP/1.1\r\n\r\n").await;
        assert!(pair.response().await.ends_with("/first "));
        pair.rest().await;
        assert!(pair.is_parked());
        pair
    }

    /// Lets a second pass, in which an idle connection is parked.
    pub(super) async fn rest(&self) {
        sleep(SECOND).await;
    }

    pub(super) fn is_parked(&self) -> bool {
        self.read_size.load(Ordering::Relaxed) <= PREFACE.len()
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.client.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one response.
    pub(super) async fn response(&mut self) -> String {
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

    /// Reads until the connection is closed; how long that takes.
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
