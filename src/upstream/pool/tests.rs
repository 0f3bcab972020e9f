//! Connections to an origin that the test scripts, on real sockets.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::config::Config;
use crate::config::layers::Sources;
use crate::error::Kind;
use crate::upstream::client;

/// No step takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

struct Origin {
    listener: TcpListener,
    uri: Uri,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let uri = format!("http://{address}/v2").parse().unwrap();
        Self { listener, uri }
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

fn pool(upstream: &str) -> Arc<Pool> {
    let config = format!("[upstream]\n{upstream}");
    let sources = Sources {
        file: Some(("test.toml", &config)),
        environment: &[],
    };
    let config = Config::load(&sources).unwrap_or_else(|problems| panic!("{problems:#?}"));
    client::pool(&config.gateway.upstream.client).unwrap()
}

/// Reads the head of a request, and writes a response.
async fn respond(stream: &mut TcpStream, response: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "a request");
    }
    stream.write_all(response.as_bytes()).await.unwrap();
    String::from_utf8(head).unwrap()
}

const COMPLETE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe";

async fn call(pool: &Arc<Pool>, uri: &Uri) -> Result<Bytes, Failure> {
    let mut request = Request::new(body::whole(Bytes::new()));
    *request.uri_mut() = uri.clone();
    let body = pool.request(&mut request).await?.into_body();
    let body = body
        .collect()
        .await
        .map_err(|error| Failure::reading_body(error.into()))?;
    Ok(body.to_bytes())
}

/// Makes one call on a new connection, and returns the origin's end of it.
async fn connected(origin: &Origin, pool: &Arc<Pool>) -> TcpStream {
    let serve = async {
        let mut stream = origin.accept().await;
        respond(&mut stream, COMPLETE).await;
        stream
    };
    let (stream, called) = bounded(async { tokio::join!(serve, call(pool, &origin.uri)) }).await;
    assert!(called.is_ok());
    stream
}

/// Lets the runtime see everything that has arrived on sockets so far.
async fn poll_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    server.write_all(b"x").await.unwrap();
    client.read_u8().await.unwrap();
}

fn idle(pool: &Pool) -> usize {
    pool.registry.idle()
}

async fn bounded<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("a step in time")
}

#[tokio::test]
async fn consecutive_calls_share_a_connection() {
    let (origin, pool) = (Origin::start().await, pool(""));
    let uri = origin.uri.clone();
    let serve = async {
        let mut stream = origin.accept().await;
        let authority = origin.uri.authority().unwrap().to_string();
        // From here on nothing accepts another connection.
        drop(origin);
        for _ in 0..3 {
            let head = respond(&mut stream, COMPLETE).await;
            assert!(head.starts_with("GET /v2 HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("host: {authority}\r\n")), "{head}");
        }
        stream
    };
    let calls = async {
        for _ in 0..3 {
            assert_eq!(call(&pool, &uri).await.unwrap(), "hello");
        }
    };
    let _open = bounded(async { tokio::join!(serve, calls) }).await;
    assert_eq!(idle(&pool), 1);
}

#[tokio::test]
async fn a_request_that_was_not_sent_goes_to_another_connection() {
    let (origin, pool) = (Origin::start().await, pool(""));
    let stream = connected(&origin, &pool).await;
    assert_eq!(idle(&pool), 1);
    drop(stream);
    bounded(poll_sockets()).await;
    let serving = async { respond(&mut origin.accept().await, COMPLETE).await };
    let (_, second) = bounded(async { tokio::join!(serving, call(&pool, &origin.uri)) }).await;
    assert!(second.is_ok());
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_again() {
    let (origin, pool) = (Origin::start().await, pool(""));
    let serve = async {
        let mut stream = origin.accept().await;
        respond(&mut stream, COMPLETE).await;
        respond(&mut stream, "").await;
    };
    let calls = async {
        assert!(call(&pool, &origin.uri).await.is_ok());
        let failure = call(&pool, &origin.uri).await.unwrap_err();
        assert_eq!(failure.kind(), Kind::AnswerLost);
    };
    bounded(async { tokio::join!(serve, calls) }).await;
}

#[tokio::test]
async fn a_response_that_is_not_read_to_its_end_closes_its_connection() {
    let (origin, pool) = (Origin::start().await, pool(""));
    let serve = async {
        let mut stream = origin.accept().await;
        respond(&mut stream, HALF).await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    };
    let leave = async {
        let mut request = Request::new(body::whole(Bytes::new()));
        *request.uri_mut() = origin.uri.clone();
        let mut body = pool.request(&mut request).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        drop(body);
    };
    bounded(async { tokio::join!(serve, leave) }).await;
    assert_eq!(idle(&pool), 0);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let (origin, pool) = (Origin::start().await, pool("pool_idle_timeout = '40ms'\n"));
    let serve = async {
        let mut stream = origin.accept().await;
        respond(&mut stream, COMPLETE).await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    };
    let (called, ()) = bounded(async { tokio::join!(call(&pool, &origin.uri), serve) }).await;
    assert!(called.is_ok());
    assert_eq!(idle(&pool), 0);
}

#[tokio::test]
async fn a_sweep_closes_connections_that_the_other_side_has_closed() {
    let (origin, pool) = (Origin::start().await, pool(""));
    let stream = connected(&origin, &pool).await;
    assert_eq!(idle(&pool), 1);
    assert!(pool.registry.sweep());
    drop(stream);
    bounded(async {
        while pool.registry.sweep() {
            yield_now().await;
        }
    })
    .await;
    assert_eq!(idle(&pool), 0);
}

#[tokio::test]
async fn idle_connections_are_limited_and_a_waiting_call_goes_first() {
    let (origin, pool) = (Origin::start().await, pool("pool_max_idle_per_host = 1\n"));
    let serve = async {
        let (mut one, mut other) = (origin.accept().await, origin.accept().await);
        tokio::join!(respond(&mut one, COMPLETE), respond(&mut other, COMPLETE));
        (one, other)
    };
    let calls = async { tokio::join!(call(&pool, &origin.uri), call(&pool, &origin.uri)) };
    let (streams, called) = bounded(async { tokio::join!(serve, calls) }).await;
    assert!(called.0.is_ok() && called.1.is_ok());
    assert_eq!(idle(&pool), 1);
    let Checkout::Kept(Connection::Http1(connection)) = pool.registry.checkout(&origin.uri) else {
        panic!("one is kept");
    };
    let Checkout::Open(mut pending) = pool.registry.checkout(&origin.uri) else {
        panic!("there is no other");
    };
    pool.registry.give_back(connection);
    assert!(bounded(pending.given_back()).await.is_some());
    assert_eq!(idle(&pool), 0);
    drop(streams);
}

#[tokio::test]
async fn one_call_opens_a_connection_for_all_and_its_failure_reaches_all() {
    let (pool, uri) = (pool(""), Uri::from_static("https://localhost/v2"));
    let checkout = || pool.registry.checkout(&uri);
    let first = checkout();
    assert!(matches!(first, Checkout::OpenForAll(_)));
    assert!(matches!(checkout(), Checkout::Wait(_)));
    // Its caller leaves, and the next one opens it.
    drop(first);
    let Checkout::OpenForAll(tell) = checkout() else {
        panic!("the next call opens one");
    };
    let waiting = pool.connect(checkout(), &uri);
    tell.send_replace(Some(Err(Kind::Tls.into())));
    let failure = bounded(waiting).await.err();
    assert_eq!(failure.map(|failure| failure.kind()), Some(Kind::Tls));
}

#[tokio::test]
async fn a_connection_given_to_a_call_that_left_returns_to_the_pool() {
    let (origin, pool) = (Origin::start().await, pool(""));
    let _stream = connected(&origin, &pool).await;
    let Checkout::Kept(Connection::Http1(connection)) = pool.registry.checkout(&origin.uri) else {
        panic!("one is kept");
    };
    let pending = pool.registry.checkout(&origin.uri);
    assert!(matches!(pending, Checkout::Open(_)));
    pool.registry.give_back(connection);
    assert_eq!(idle(&pool), 0, "it is on its way");
    drop(pending);
    assert_eq!(idle(&pool), 1);
}

#[tokio::test]
async fn a_call_that_leaves_is_removed_from_the_queue() {
    let (origin, pool) = (Origin::start().await, pool(""));
    let checkouts = [(); 3].map(|()| pool.registry.checkout(&origin.uri));
    assert_eq!(pool.registry.waiting(), 3);
    drop(checkouts);
    assert_eq!(pool.registry.waiting(), 0);
}
