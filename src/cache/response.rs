//! One buffered response: as it is stored, shared between waiters, and sent.
//!
//! The headers and the body of a received response are slices of the read buffer, and
//! one slice keeps the whole buffer alive. A [`StoredResponse`] is therefore a copy,
//! packed into one block of exactly its size. Responses with the same header names, as
//! those of one service have, share a template that is copied and filled in to send one.

use std::fmt;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, EXPIRES, PRAGMA, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use parking_lot::Mutex;

use crate::body::{self, Body};
use crate::headers::{CACHE_STATUS, REQUEST_ID, strip_hop_by_hop};

/// Status, end-to-end headers and body of a response to a cached template. The body and
/// its content type are upstream's, byte for byte. Cheap to clone; clones share the block.
#[derive(Clone)]
pub struct StoredResponse {
    status: StatusCode,
    template: Arc<HeaderTemplate>,
    /// Whether the template is one of [`HeaderTemplates`].
    template_shared: bool,
    /// The lengths of the header values, 32 bits each; the values; the body.
    block: Bytes,
}

impl StoredResponse {
    /// Packs a response of upstream.
    ///
    /// Cookies are dropped, because a stored response would replay them. What upstream
    /// says about caching is dropped too: it was addressed to this cache, and clients
    /// are told to store nothing.
    #[must_use]
    pub fn new(
        status: StatusCode,
        mut headers: HeaderMap,
        body: &[u8],
        templates: &HeaderTemplates,
    ) -> Self {
        strip_hop_by_hop(&mut headers);
        let kept = headers.iter().filter(|(name, _)| !DROPPED.contains(name));
        let kept: Vec<(&HeaderName, &HeaderValue)> = kept.collect();
        let values = || kept.iter().map(|(_, value)| value.as_bytes());
        let size: usize = values().map(|value| size_of::<u32>() + value.len()).sum();
        let mut block = Vec::with_capacity(size + body.len());
        for value in values() {
            // hyper accepts no message head of 4 GiB.
            block.put_u32_ne(value.len() as u32);
        }
        for value in values() {
            block.put_slice(value);
        }
        block.put_slice(body);
        let (template, template_shared) = templates.of(|| kept.iter().map(|(name, _)| *name));
        Self {
            status,
            template,
            template_shared,
            block: block.into(),
        }
    }

    /// Upstream's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A response for one client.
    #[must_use]
    pub fn to_response(&self, stamp: ResponseStamp) -> Response<Body> {
        let HeaderTemplate { headers, upstream } = &*self.template;
        let mut headers = headers.clone();
        let mut values = headers.values_mut();
        let mut lengths = &self.block[..];
        let mut at = upstream.len() * size_of::<u32>();
        for value in values.by_ref().take(upstream.len()) {
            let end = at + lengths.get_u32_ne() as usize;
            // It was a valid value when it was packed.
            if let Ok(stored) = HeaderValue::from_maybe_shared(self.block.slice(at..end)) {
                *value = stored;
            }
            at = end;
        }
        // In the order of `HeaderTemplate::new`; `Cache-Control` is filled in already.
        let age = stamp.age_seconds.unwrap_or_default().into();
        let mut own = [stamp.request_id, age, stamp.cache_status].into_iter();
        for (value, own) in values.skip(1).zip(own.by_ref()) {
            *value = own;
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

    /// The heap memory that it does not share, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        if self.template_shared {
            self.block.len()
        } else {
            self.block.len() + self.template.heap_bytes()
        }
    }
}

/// End-to-end headers of upstream that are not stored: not meant for clients, not true of
/// a stored response, or set by the gateway itself.
static DROPPED: [HeaderName; 7] = [
    SET_COOKIE,
    AGE,
    EXPIRES,
    PRAGMA,
    CONTENT_LENGTH,
    CACHE_CONTROL,
    REQUEST_ID,
];

/// The gateway's own headers of one response.
#[derive(Clone, Debug)]
pub struct ResponseStamp {
    /// The value of [`REQUEST_ID`].
    pub request_id: HeaderValue,
    /// The value of [`CACHE_STATUS`], appended to upstream's (RFC 9211 §2).
    pub cache_status: HeaderValue,
    /// The age of a stored response, in seconds.
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

/// Header names without their values.
#[derive(Debug)]
struct HeaderTemplate {
    /// Upstream's names, in the order of the values in a block; repeated ones repeat.
    upstream: Box<[HeaderName]>,
    /// Upstream's names, then the gateway's own. A copy is filled in in this order, so
    /// no name is hashed again.
    headers: HeaderMap,
}

impl HeaderTemplate {
    fn new(upstream: Box<[HeaderName]>) -> Self {
        let empty = || HeaderValue::from_static("");
        let mut headers = HeaderMap::with_capacity(upstream.len() + 4);
        for name in &upstream {
            headers.append(name, empty());
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, empty());
        headers.insert(AGE, empty());
        // The gateway's entry comes last, so it is appended where upstream has one.
        if !upstream.contains(&CACHE_STATUS) {
            headers.insert(CACHE_STATUS, empty());
        }
        Self { upstream, headers }
    }

    /// An estimate, in bytes.
    fn heap_bytes(&self) -> usize {
        let texts = self.upstream.iter().map(|name| name.as_str().len());
        let each = 2 * size_of::<HeaderName>() + size_of::<HeaderValue>() + 40;
        self.headers.capacity() * each + texts.sum::<usize>() + size_of::<Self>()
    }
}

/// The templates that stored responses share.
#[derive(Debug, Default)]
pub struct HeaderTemplates {
    known: Mutex<Vec<Arc<HeaderTemplate>>>,
}

/// The most templates that are shared. A service has a handful; responses beyond have a
/// template each.
const MAX_TEMPLATES: usize = 64;

impl HeaderTemplates {
    /// The template with these names, and whether it is shared.
    fn of<'a, N>(&self, names: impl Fn() -> N) -> (Arc<HeaderTemplate>, bool)
    where
        N: Iterator<Item = &'a HeaderName>,
    {
        let mut known = self.known.lock();
        let same = |known: &&Arc<HeaderTemplate>| known.upstream.iter().eq(names());
        if let Some(template) = known.iter().find(same) {
            return (Arc::clone(template), true);
        }
        let template = Arc::new(HeaderTemplate::new(names().cloned().collect()));
        let share = known.len() < MAX_TEMPLATES;
        if share {
            known.push(Arc::clone(&template));
        }
        (template, share)
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

    /// [`SENT`] as hyper reads it: slices of its read buffer.
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
            // Until the client has closed.
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
    async fn a_stored_response_does_not_keep_the_read_buffer_alive() {
        let (parts, body) = read_off_a_socket().await;
        let read = body.clone();
        let answer = StoredResponse::new(
            parts.status,
            parts.headers,
            &body,
            &HeaderTemplates::default(),
        );
        drop(body);
        // Only the last slice can take the whole buffer.
        let buffer = read.try_into_mut().expect("the answer holds no slice");
        assert!(buffer.capacity() >= 10);
        let held = answer.heap_bytes();
        let block = answer.block.try_into_mut().expect("nobody else has it");
        assert_eq!(block.capacity(), block.len());
        let texts = "application/json".len() + "0f6c1b2a".len() + "ab".len() + "\"Jane Doe\"".len();
        assert_eq!((block.len(), held), (texts + 4 * 4, texts + 4 * 4));
    }

    #[tokio::test]
    async fn a_response_has_the_end_to_end_headers_of_upstream() {
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
    fn the_gateway_comes_last_in_cache_status() {
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
    fn templates_are_shared_and_bounded() {
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
        assert!(Arc::ptr_eq(&one.template, &other.template));
        let all: Vec<_> = (0..=MAX_TEMPLATES)
            .map(|n| answer(format!("x-{n}")))
            .collect();
        let own = all.iter().filter(|answer| !answer.template_shared).count();
        assert_eq!(own, 1);
        assert!(all[MAX_TEMPLATES].heap_bytes() > all[0].heap_bytes() + "x-64".len());
    }
}
