//! One whole answer, as it is stored, shared between waiters, and sent.
//!
//! What comes off a socket are slices of the buffer that it was read into, and one
//! slice keeps all of the buffer. So an [`Answer`] is a copy, packed into one block of
//! exactly its size; and answers whose headers have the same names, as those of one
//! service have, share the list of [`Names`].

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, EXPIRES, PRAGMA, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::body::{self, Body};
use crate::request::strip_hop_by_hop;

/// Status, end-to-end headers and body of an answer to a cached template. Body
/// and content type are upstream's, byte for byte. Cheap to clone; clones share
/// the block.
#[derive(Clone)]
pub struct Answer {
    status: StatusCode,
    /// The names of the headers, in order; one that is repeated is there repeatedly.
    names: Arc<[HeaderName]>,
    /// Whether other answers have the same list.
    names_shared: bool,
    /// The length of each header's value, as 32 bits; the values; the body.
    block: Bytes,
}

impl Answer {
    /// Makes an answer of what upstream sent. Cookies are dropped, for they would
    /// be replayed, and so is what upstream says about caching, for it was said
    /// to us: clients are told to store nothing.
    #[must_use]
    pub fn new(status: StatusCode, mut headers: HeaderMap, body: &[u8], names: &Names) -> Self {
        strip_hop_by_hop(&mut headers);
        let kept = headers.iter().filter(|(name, _)| !DROPPED.contains(name));
        let kept: Vec<(&HeaderName, &HeaderValue)> = kept.collect();
        let values = || kept.iter().map(|(_, value)| value.as_bytes());
        let size: usize = values().map(|value| size_of::<u32>() + value.len()).sum();
        let mut block = Vec::with_capacity(size + body.len());
        for value in values() {
            // hyper takes no head of 4 GiB.
            block.put_u32_ne(value.len() as u32);
        }
        for value in values() {
            block.put_slice(value);
        }
        block.put_slice(body);
        let (names, names_shared) = names.list(|| kept.iter().map(|(name, _)| *name));
        Self {
            status,
            names,
            names_shared,
            block: block.into(),
        }
    }

    /// Upstream's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A response of its own for one client, with room for a few more headers.
    #[must_use]
    pub fn to_response(&self) -> Response<Body> {
        let count = self.names.len();
        let mut headers = HeaderMap::with_capacity(count + ADDED_LATER);
        let mut lengths = &self.block[..];
        let mut at = count * size_of::<u32>();
        for name in &*self.names {
            let end = at + lengths.get_u32_ne() as usize;
            // What was a value once is one still.
            if let Ok(value) = HeaderValue::from_maybe_shared(self.block.slice(at..end)) {
                headers.append(name, value);
            }
            at = end;
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut response = Response::new(body::whole(self.block.slice(at..)));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }

    /// The memory that it has for itself, besides its own size, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let names = match self.names_shared {
            true => 0,
            false => {
                let texts = self.names.iter().map(|name| name.as_str().len());
                texts.sum::<usize>() + size_of_val(&*self.names)
            }
        };
        self.block.len() + names
    }
}

/// What is not for the clients of a gateway, or not true of what it sends.
const DROPPED: [HeaderName; 6] = [
    SET_COOKIE,
    AGE,
    EXPIRES,
    PRAGMA,
    CONTENT_LENGTH,
    CACHE_CONTROL,
];

/// `Cache-Control`, and what the gateway says of the answer: `Cache-Status`, `Age`,
/// the request's id, `Date`.
const ADDED_LATER: usize = 5;

impl fmt::Debug for Answer {
    /// Without headers and body, which are personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("block_bytes", &self.block.len())
            .finish_non_exhaustive()
    }
}

/// The lists of header names that answers have, one copy of each.
#[derive(Debug, Default)]
pub struct Names {
    /// Held for one look at a time.
    lists: Mutex<Vec<Arc<[HeaderName]>>>,
}

/// How many lists are kept. A service has a handful; one that has more pays for them.
const MAX_LISTS: usize = 64;

impl Names {
    /// The list of these names, and whether it is shared.
    fn list<'a, N>(&self, names: impl Fn() -> N) -> (Arc<[HeaderName]>, bool)
    where
        N: Iterator<Item = &'a HeaderName>,
    {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        // Most differ in length or in the first name from the one that is looked for.
        if let Some(known) = lists.iter().find(|list| list.iter().eq(names())) {
            return (Arc::clone(known), true);
        }
        let list: Arc<[HeaderName]> = names().cloned().collect();
        let keep = lists.len() < MAX_LISTS;
        if keep {
            lists.push(Arc::clone(&list));
        }
        (list, keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http_body_util::{BodyExt as _, Empty};
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    const SENT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
        X-Amzn-RequestId: 0f6c1b2a\r\nSet-Cookie: a=b\r\nCache-Control: max-age=60\r\n\
        Vary: a\r\nVary: b\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: 10\r\n\r\n\"Jane Doe\"";

    /// What hyper makes of [`SENT`] on a socket: slices of the buffer it reads into.
    async fn read_off_a_socket() -> (http::response::Parts, Bytes) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.unwrap();
            }
            stream.write_all(SENT).await.unwrap();
            // Until the other side is done.
            stream.read_to_end(&mut head).await.unwrap();
        });
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::new(Empty::<Bytes>::new());
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn an_answer_keeps_nothing_of_the_buffer_that_it_was_read_into() {
        let (parts, body) = read_off_a_socket().await;
        let read = body.clone();
        let answer = Answer::new(parts.status, parts.headers, &body, &Names::default());
        drop(body);
        // Whoever holds the last slice of a buffer holds the whole buffer.
        let buffer = read.try_into_mut().expect("the answer holds no slice");
        assert!(buffer.capacity() >= 10);
        let held = answer.heap_bytes();
        let block = answer.block.try_into_mut().expect("nobody else has it");
        assert_eq!(block.capacity(), block.len());
        let texts = "application/json".len() + "0f6c1b2a".len() + "ab".len() + "\"Jane Doe\"".len();
        assert_eq!((block.len(), held), (texts + 4 * 4, texts + 4 * 4));
    }

    #[tokio::test]
    async fn a_response_has_what_upstream_sent_for_everybody() {
        let (parts, body) = read_off_a_socket().await;
        let answer = Answer::new(parts.status, parts.headers, &body, &Names::default());
        for _ in 0..2 {
            let (parts, body) = answer.to_response().into_parts();
            assert_eq!(parts.status, StatusCode::OK);
            let headers = parts.headers.iter();
            let mut headers: Vec<_> = headers
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            headers.sort_unstable();
            let expected = [
                ("cache-control", "no-store"),
                ("content-type", "application/json"),
                ("vary", "a"),
                ("vary", "b"),
                ("x-amzn-requestid", "0f6c1b2a"),
            ];
            assert_eq!(headers, expected);
            assert_eq!(body.collect().await.unwrap().to_bytes(), "\"Jane Doe\"");
        }
    }

    #[test]
    fn lists_of_names_are_shared_and_bounded() {
        let names = Names::default();
        let answer = |name: String| {
            let mut headers = HeaderMap::new();
            headers.insert(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_static("v"),
            );
            Answer::new(StatusCode::OK, headers, b"", &names)
        };
        let (one, other) = (answer("x-0".into()), answer("x-0".into()));
        assert!(Arc::ptr_eq(&one.names, &other.names));
        let all: Vec<_> = (0..=MAX_LISTS).map(|n| answer(format!("x-{n}"))).collect();
        let own = all.iter().filter(|answer| !answer.names_shared).count();
        assert_eq!(own, 1);
        assert!(all[MAX_LISTS].heap_bytes() > all[0].heap_bytes() + "x-64".len());
    }
}
