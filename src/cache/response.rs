//! One whole answer, as it is stored, shared between waiters, and sent.
//!
//! What comes off a socket are slices of the buffer that it was read into, and one
//! slice keeps all of the buffer. So an [`StoredResponse`] is a copy, packed into one block of
//! exactly its size; and answers whose headers have the same names, as those of one
//! service have, share one of the [`HeaderTemplates`], which is copied and filled in for a response.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes};
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, EXPIRES, PRAGMA, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::body::{self, Body};
use crate::headers::{CACHE_STATUS, REQUEST_ID, strip_hop_by_hop};

/// Status, end-to-end headers and body of an answer to a cached template. Body
/// and content type are upstream's, byte for byte. Cheap to clone; clones share
/// the block.
#[derive(Clone)]
pub struct StoredResponse {
    status: StatusCode,
    head: Arc<HeaderTemplate>,
    /// Whether other answers have the same one.
    head_shared: bool,
    /// The length of each header's value, as 32 bits; the values; the body.
    block: Bytes,
}

impl StoredResponse {
    /// Makes an answer of what upstream sent. Cookies are dropped, for they would
    /// be replayed, and so is what upstream says about caching, for it was said
    /// to us: clients are told to store nothing.
    #[must_use]
    pub fn new(
        status: StatusCode,
        mut headers: HeaderMap,
        body: &[u8],
        heads: &HeaderTemplates,
    ) -> Self {
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
        let (head, head_shared) = heads.of(|| kept.iter().map(|(name, _)| *name));
        Self {
            status,
            head,
            head_shared,
            block: block.into(),
        }
    }

    /// Upstream's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A response of its own for one client.
    #[must_use]
    pub fn to_response(&self, stamp: ResponseStamp) -> Response<Body> {
        let HeaderTemplate { template, upstream } = &*self.head;
        let mut headers = template.clone();
        let mut slots = headers.values_mut();
        let mut lengths = &self.block[..];
        let mut at = upstream.len() * size_of::<u32>();
        for slot in slots.by_ref().take(upstream.len()) {
            let end = at + lengths.get_u32_ne() as usize;
            // What was a value once is one still.
            if let Ok(value) = HeaderValue::from_maybe_shared(self.block.slice(at..end)) {
                *slot = value;
            }
            at = end;
        }
        // In the order of `HeaderTemplate::new`, after `Cache-Control`, which is the same for all.
        let age = stamp.age_seconds.unwrap_or_default().into();
        let mut own = [stamp.request_id, age, stamp.cache_status].into_iter();
        for (slot, value) in slots.skip(1).zip(own.by_ref()) {
            *slot = value;
        }
        if let Some(cache_status) = own.next() {
            headers.append(CACHE_STATUS, cache_status);
        }
        if stamp.age_seconds.is_none() {
            headers.remove(AGE);
        }
        let mut response = Response::new(body::whole(self.block.slice(at..)));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }

    /// The memory that it has for itself, besides its own size, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let head = match self.head_shared {
            true => 0,
            false => self.head.heap_bytes(),
        };
        self.block.len() + head
    }
}

/// What is not for the clients of a gateway, not true of what it sends, or its own to say.
static DROPPED: [HeaderName; 7] = [
    SET_COOKIE,
    AGE,
    EXPIRES,
    PRAGMA,
    CONTENT_LENGTH,
    CACHE_CONTROL,
    REQUEST_ID,
];

/// What the gateway says of an answer to one client.
#[derive(Clone, Debug)]
pub struct ResponseStamp {
    /// The value of [`REQUEST_ID`].
    pub request_id: HeaderValue,
    /// The value of [`CACHE_STATUS`], after what upstream may have said.
    pub cache_status: HeaderValue,
    /// The age of an answer that was stored, in seconds.
    pub age_seconds: Option<u64>,
}

impl fmt::Debug for StoredResponse {
    /// Without headers and body, which are personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("status", &self.status)
            .field("block_bytes", &self.block.len())
            .finish_non_exhaustive()
    }
}

/// The headers that answers have in common: their names, without the values.
#[derive(Debug)]
struct HeaderTemplate {
    /// Upstream's, in the order of the values in a block, one that is repeated repeatedly.
    upstream: Box<[HeaderName]>,
    /// These and then the gateway's own. A copy is filled in from the first to the last,
    /// so that no name is hashed again.
    template: HeaderMap,
}

impl HeaderTemplate {
    fn new(upstream: Box<[HeaderName]>) -> Self {
        let room = || HeaderValue::from_static("");
        let mut template = HeaderMap::with_capacity(upstream.len() + 4);
        for name in &upstream {
            template.append(name, room());
        }
        template.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        template.insert(REQUEST_ID, room());
        template.insert(AGE, room());
        // One that upstream sent comes first, so ours would not be the last.
        if !upstream.contains(&CACHE_STATUS) {
            template.insert(CACHE_STATUS, room());
        }
        Self { upstream, template }
    }

    /// About what it takes.
    fn heap_bytes(&self) -> usize {
        let texts = self.upstream.iter().map(|name| name.as_str().len());
        let each = 2 * size_of::<HeaderName>() + size_of::<HeaderValue>() + 40;
        self.template.capacity() * each + texts.sum::<usize>() + size_of::<Self>()
    }
}

/// The heads that answers have, one copy of each.
#[derive(Debug, Default)]
pub struct HeaderTemplates {
    /// Held for one look at a time.
    known: Mutex<Vec<Arc<HeaderTemplate>>>,
}

/// How many heads are kept. A service has a handful; one that has more pays for them.
const MAX_HEADS: usize = 64;

impl HeaderTemplates {
    /// The head with these names, and whether it is shared.
    fn of<'a, N>(&self, names: impl Fn() -> N) -> (Arc<HeaderTemplate>, bool)
    where
        N: Iterator<Item = &'a HeaderName>,
    {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Most differ in length or in the first name from the one that is looked for.
        if let Some(head) = known.iter().find(|head| head.upstream.iter().eq(names())) {
            return (Arc::clone(head), true);
        }
        let head = Arc::new(HeaderTemplate::new(names().cloned().collect()));
        let keep = known.len() < MAX_HEADS;
        if keep {
            known.push(Arc::clone(&head));
        }
        (head, keep)
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
        let answer = StoredResponse::new(
            parts.status,
            parts.headers,
            &body,
            &HeaderTemplates::default(),
        );
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
        let answer = StoredResponse::new(
            parts.status,
            parts.headers,
            &body,
            &HeaderTemplates::default(),
        );
        for age_seconds in [Some(7), None] {
            let (parts, body) = answer.to_response(stamp(age_seconds)).into_parts();
            assert_eq!(parts.status, StatusCode::OK);
            let mut expected = vec![
                ("alexa-gateway-request-id", "1f"),
                ("cache-control", "no-store"),
                ("cache-status", "alexa-gateway; hit"),
                ("content-type", "application/json"),
                ("vary", "a"),
                ("vary", "b"),
                ("x-amzn-requestid", "0f6c1b2a"),
            ];
            expected.extend(age_seconds.map(|_| ("age", "7")));
            expected.sort_unstable();
            assert_eq!(sorted(&parts.headers), expected);
            assert_eq!(body.collect().await.unwrap().to_bytes(), "\"Jane Doe\"");
        }
    }

    fn stamp(age_seconds: Option<u64>) -> ResponseStamp {
        ResponseStamp {
            request_id: HeaderValue::from_static("1f"),
            cache_status: HeaderValue::from_static("alexa-gateway; hit"),
            age_seconds,
        }
    }

    fn sorted(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let headers = headers.iter();
        let mut headers: Vec<_> = headers
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        headers.sort_unstable();
        headers
    }

    #[test]
    fn what_another_cache_says_comes_before_what_we_say() {
        let mut headers = HeaderMap::new();
        headers.append(CACHE_STATUS, HeaderValue::from_static("cdn; hit"));
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append(CACHE_STATUS, HeaderValue::from_static("shield; fwd=miss"));
        headers.append(REQUEST_ID, HeaderValue::from_static("not ours"));
        let answer = StoredResponse::new(StatusCode::OK, headers, b"", &HeaderTemplates::default());
        let response = answer.to_response(stamp(None));
        let said: Vec<_> = response.headers().get_all(CACHE_STATUS).iter().collect();
        assert_eq!(said, ["cdn; hit", "shield; fwd=miss", "alexa-gateway; hit"]);
        assert_eq!(response.headers()["x-a"], "1");
        assert_eq!(response.headers()[REQUEST_ID], "1f");
        assert_eq!(response.headers().len(), 6);
    }

    #[test]
    fn heads_are_shared_and_bounded() {
        let heads = HeaderTemplates::default();
        let answer = |name: String| {
            let mut headers = HeaderMap::new();
            headers.insert(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_static("v"),
            );
            StoredResponse::new(StatusCode::OK, headers, b"", &heads)
        };
        let (one, other) = (answer("x-0".into()), answer("x-0".into()));
        assert!(Arc::ptr_eq(&one.head, &other.head));
        let all: Vec<_> = (0..=MAX_HEADS).map(|n| answer(format!("x-{n}"))).collect();
        let own = all.iter().filter(|answer| !answer.head_shared).count();
        assert_eq!(own, 1);
        assert!(all[MAX_HEADS].heap_bytes() > all[0].heap_bytes() + "x-64".len());
    }
}
