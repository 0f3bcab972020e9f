//! Kept connections over raw sockets: one call at a time, and a parser of just what the
//! peers send, so that the load costs less than what it measures.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::call::Calls;

/// No response takes this long: a peer that hangs must not hang the bench.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The number of connections, unless the scenario says otherwise.
pub(crate) const CONNECTIONS: usize = 64;

/// A kept connection.
pub(crate) struct Connection<S = TcpStream> {
    stream: S,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Opens a connection.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Makes calls over a stream that is open.
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            request: Vec::with_capacity(4096),
            answer: Vec::with_capacity(4096),
        }
    }

    /// Makes the next call and reads the whole response.
    pub(crate) async fn call(&mut self, calls: &Calls) -> io::Result<()> {
        calls.write_next(&mut self.request);
        self.exchange().await.map(drop)
    }

    /// Sends a GET without a token and returns the body.
    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Vec<u8>> {
        self.request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        let body = self.exchange().await?;
        Ok(self.answer.split_off(body))
    }

    /// Sends `request` and reads the response; returns where its body starts.
    async fn exchange(&mut self) -> io::Result<usize> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let mut end = None;
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if end.is_none() {
                end = body_of(&self.answer)?;
            }
            if let Some((body, end)) = end
                && self.answer.len() >= end
            {
                return Ok(body);
            }
        }
    }
}

/// Returns where the body of a response starts and ends, once its head is complete.
fn body_of(answer: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body) = head.parse(answer).map_err(io::Error::other)? else {
        return Ok(None);
    };
    if head.code != Some(200) {
        let text = String::from_utf8_lossy(answer).into_owned();
        return Err(io::Error::other(format!("not a 200: {text}")));
    }
    let length = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    match length {
        Some(length) => Ok(Some((body, body + length))),
        None => Err(io::Error::other("a response without Content-Length")),
    }
}

/// Connections opened at the same time; few enough for every backlog.
const OPENED_AT_ONCE: usize = 100;

/// Opens connections, makes one call on each, and keeps them.
///
/// # Errors
/// A call failed, or was not answered with 200.
pub(crate) async fn keep_open(
    address: SocketAddr,
    calls: &Arc<Calls>,
    count: usize,
) -> anyhow::Result<Vec<Connection>> {
    let mut open = Vec::with_capacity(count);
    while open.len() < count {
        let mut opening = JoinSet::new();
        for _ in open.len()..count.min(open.len() + OPENED_AT_ONCE) {
            let calls = Arc::clone(calls);
            opening.spawn(timeout(PATIENCE, async move {
                let mut connection = Connection::open(address).await?;
                connection.call(&calls).await?;
                io::Result::Ok(connection)
            }));
        }
        for opened in opening.join_all().await {
            let number = open.len() + 1;
            let opened = opened.context("no response").and_then(|opened| Ok(opened?));
            open.push(opened.with_context(|| format!("connection {number} of {count}"))?);
        }
    }
    Ok(open)
}
