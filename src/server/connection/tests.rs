//! Connections on paused time, over in-memory pipes.

mod pair;

use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::*;
use crate::server::handler::IncomingRequest;
use crate::server::parking::{MAX_EMPTY_BYTES, PARK_AFTER};
use crate::server::sniff::PREFACE;
use crate::server::stop::StopSwitch;
use pair::{Pair, SECOND, TIMEOUTS};

#[tokio::test(start_paused = true)]
async fn a_late_empty_line_does_not_keep_a_connection_from_parking() {
    let mut pair = Pair::new();
    pair.send("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na")
        .await;
    assert!(pair.response().await.ends_with("/ a"));
    // Before it is parked.
    sleep(PARK_AFTER / 2).await;
    pair.send("\r\n").await;
    sleep(2 * TIMEOUTS.request_head).await;
    assert!(pair.is_parked());
    pair.send("GET /next HTTP/1.1\r\n\r\n").await;
    assert!(pair.response().await.ends_with("/next "));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_sends_only_empty_lines_is_closed() {
    for parked in [false, true] {
        let mut pair = if parked {
            Pair::parked().await
        } else {
            Pair::new()
        };
        pair.client
            .write_all(&b"\r\n".repeat(MAX_EMPTY_BYTES))
            .await
            .ok();
        let (text, after) = pair.end().await;
        assert_eq!((&*text, after), ("", Duration::ZERO), "{parked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_carriage_return_without_a_line_feed_is_not_an_empty_line() {
    for state in ["new", "kept", "parked"] {
        let mut pair = match state {
            "parked" => Pair::parked().await,
            _ => Pair::new(),
        };
        if state == "kept" {
            pair.send("GET /first HTTP/1.1\r\n\r\n").await;
            assert!(pair.response().await.ends_with("/first "));
        }
        pair.send("\r").await;
        // Half of an empty line does not keep the connection from parking.
        sleep(PARK_AFTER * 3).await;
        pair.send("\nGET /next HTTP/1.1\r\n\r\n").await;
        assert!(pair.response().await.ends_with("/next "), "{state}");
        pair.send("\rGET / HTTP/1.1\r\n\r\n").await;
        let (text, _) = pair.end().await;
        assert!(text.starts_with("HTTP/1.1 400 "), "{state}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn half_an_empty_line_does_not_extend_the_idle_timeout() {
    let mut pair = Pair::parked().await;
    pair.send("\r").await;
    let (text, after) = pair.end().await;
    assert_eq!(text, "");
    assert!(after <= TIMEOUTS.idle, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_parked_connection_serves_its_next_request() {
    let mut pair = Pair::parked().await;
    for n in 0..5 {
        pair.send(format!(
            "POST /{n} HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        ))
        .await;
        assert!(pair.response().await.ends_with(&format!("/{n} abc")));
        pair.rest().await;
        assert!(pair.is_parked(), "after {n}");
    }
    assert_eq!(pair.handler.targets().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_be_split_anywhere() {
    let request = "POST /cut HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut pair = Pair::parked().await;
    for at in 1..request.len() {
        let (start, end) = request.split_at(at);
        pair.send(start).await;
        pair.rest().await;
        assert!(!pair.is_parked(), "with a request at {at}");
        pair.send(end).await;
        assert!(pair.response().await.ends_with("/cut abc"), "{at}");
        pair.rest().await;
        assert!(pair.is_parked(), "after {at}");
    }
    assert_eq!(pair.handler.targets().len(), request.len());
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_served_once_wherever_the_last_is_split() {
    let third = "GET /c HTTP/1.1\r\n\r\n";
    for at in 0..third.len() {
        let (start, end) = third.split_at(at);
        let mut pair = Pair::parked().await;
        pair.send(format!(
            "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n{start}"
        ))
        .await;
        pair.rest().await;
        pair.send(end).await;
        pair.rest().await;
        assert_eq!(pair.handler.targets(), ["/first", "/a", "/b", "/c"], "{at}");
        pair.client.shutdown().await.unwrap();
        let (received, _) = pair.end().await;
        assert_eq!(received.matches("HTTP/1.1 200 OK").count(), 3, "{received}");
        assert!(received.ends_with("/c "), "{received}");
        pair.served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn empty_lines_between_requests_are_ignored() {
    let mut pair = Pair::parked().await;
    pair.send("\r\n\r\n").await;
    pair.rest().await;
    assert!(pair.is_parked());
    // Some clients send an empty line after a body.
    pair.send("POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nx\r\n")
        .await;
    assert!(pair.response().await.ends_with("/a x"));
    pair.rest().await;
    assert!(pair.is_parked());
    pair.send("\r\nGET /b HTTP/1.1\r\n\r\n").await;
    assert!(pair.response().await.ends_with("/b "));
}

#[tokio::test(start_paused = true)]
async fn a_parked_connection_is_closed_at_the_idle_timeout() {
    let mut pair = Pair::parked().await;
    let (received, took) = pair.end().await;
    // One of the 75 seconds has passed.
    assert_eq!((received.as_str(), took.as_secs()), ("", 74));
    pair.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_head_gets_a_408() {
    for kept in [false, true] {
        let mut pair = if kept {
            Pair::parked().await
        } else {
            Pair::new()
        };
        pair.send("GET / HTTP/1.1\r\nX: ").await;
        let start = Instant::now();
        let received = loop {
            // A byte now and then does not extend the time limit.
            match timeout(SECOND / 2, pair.response()).await {
                Ok(received) => break received,
                Err(_) => pair.send("x").await,
            }
        };
        assert!(
            received.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{received}"
        );
        // A later head counts from its first byte, like the first one.
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(pair.end().await.0, "");
        pair.served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_first_request_is_closed() {
    for start in ["", "\r\n", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut pair = Pair::new();
        pair.send(start).await;
        let (received, took) = pair.end().await;
        assert_eq!((received.as_str(), took.as_secs()), ("", 10), "{start:?}");
        pair.served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_when_its_client_closes_it() {
    for start in ["", "P", "GET / HTTP/1.1\r\n"] {
        for mut pair in [Pair::new(), Pair::parked().await] {
            pair.send(start).await;
            pair.client.shutdown().await.unwrap();
            let (received, took) = pair.end().await;
            assert_eq!((received.as_str(), took.as_secs()), ("", 0), "{start:?}");
            pair.served.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_http_2_preface_may_come_byte_by_byte() {
    let mut pair = Pair::new();
    for byte in PREFACE {
        assert_eq!(pair.handler.targets().len(), 0);
        pair.send([*byte]).await;
        sleep(SECOND / 5).await;
    }
    // An empty SETTINGS frame, and the one of the other side: RFC 9113, 6.5.
    pair.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let mut frame = [0; 9];
    pair.client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
    // No request follows.
    assert!(pair.end().await.1 <= 6 * SECOND);
    pair.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_http_2_connection_is_told_and_closed() {
    let pair = Pair::new();
    let io = TokioIo::new(pair.client);
    let (mut ask, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    for n in 0..3 {
        let request = Request::new(Full::new(Bytes::from_static(b"abc")));
        let answer = ask.send_request(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "/ abc");
        sleep(50 * SECOND).await;
        assert!(!connection.is_finished(), "after {n}");
    }
    let start = Instant::now();
    connection.await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), 25);
    pair.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_begins_like_the_preface_is_http_1() {
    let mut pair = Pair::new();
    pair.send("PRI * HTTP/1.1\r\n\r\n").await;
    let received = pair.response().await;
    assert!(received.starts_with("HTTP/1.1 "), "{received}");
}

#[tokio::test(start_paused = true)]
async fn http_2_cannot_follow_http_1() {
    let mut pair = Pair::parked().await;
    pair.send(PREFACE).await;
    assert_eq!(pair.end().await.1.as_secs(), 0);
    pair.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_parked_while_a_response_is_pending() {
    let mut pair = Pair::parked().await;
    pair.send("GET /slow HTTP/1.1\r\n\r\n").await;
    sleep(200 * SECOND).await;
    assert!(!pair.is_parked());
    pair.handler.open.notify_one();
    assert!(pair.response().await.ends_with("/slow "));
    pair.rest().await;
    pair.rest().await;
    assert!(pair.is_parked());
}

/// A response may end before the body of its request does. The rest of that body must
/// not be taken for a request.
#[tokio::test(start_paused = true)]
async fn a_request_body_that_outlasts_its_response_is_not_taken_for_a_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\n\r\n";
    for read in [true, false] {
        let mut pair = Pair::parked().await;
        let length = smuggled.len();
        let head = format!("POST /leave HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        pair.send(head).await;
        assert!(pair.response().await.ends_with("/leave "));
        sleep(20 * SECOND).await;
        assert!(!pair.is_parked());
        let mut body = pair.handler.bodies.lock().pop().unwrap();
        if read {
            pair.send(smuggled).await;
            let piece = body.frame().await.unwrap().unwrap().into_data();
            assert_eq!(piece.unwrap(), smuggled);
            pair.rest().await;
            assert!(!pair.is_parked());
            drop(body);
            pair.rest().await;
            pair.rest().await;
            assert!(pair.is_parked());
            pair.send("GET /real HTTP/1.1\r\n\r\n").await;
            assert!(pair.response().await.ends_with("/real "));
            assert_eq!(pair.handler.targets(), ["/first", "/leave", "/real"]);
        } else {
            drop(body);
            let (received, took) = pair.end().await;
            assert_eq!((received.as_str(), took.as_secs()), ("", 0));
            assert_eq!(pair.handler.targets(), ["/first", "/leave"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn expect_100_continue_works_after_parking() {
    let mut pair = Pair::parked().await;
    pair.send("POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await;
    assert!(pair.response().await.starts_with("HTTP/1.1 100 Continue"));
    pair.rest().await;
    pair.send("abc").await;
    assert!(pair.response().await.ends_with("/a abc"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_keep_alive_is_closed_after_its_response() {
    for request in [
        "GET /a HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /a HTTP/1.0\r\n\r\n",
    ] {
        let mut pair = Pair::parked().await;
        pair.send(request).await;
        let (received, took) = pair.end().await;
        assert!(received.ends_with("/a "), "{received}");
        assert_eq!(took.as_secs(), 0);
        pair.served.await.unwrap();
    }
    let mut pair = Pair::parked().await;
    pair.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    assert!(pair.response().await.ends_with("/a "));
    pair.rest().await;
    assert!(pair.is_parked());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_response_is_disconnected() {
    let mut pair = Pair::parked().await;
    pair.send("GET /large HTTP/1.1\r\n\r\n").await;
    let start = Instant::now();
    pair.served.await.unwrap();
    let took = start.elapsed().as_secs();
    assert!((30..=32).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_is_served() {
    let mut pair = Pair::parked().await;
    pair.send("GET /large HTTP/1.1\r\n\r\n").await;
    let mut left = 1 << 20;
    let mut piece = vec![0; 64 * 1024];
    while left > 0 {
        sleep(20 * SECOND).await;
        left -= pair.client.read(&mut piece).await.unwrap().min(left);
        assert!(!pair.served.is_finished());
    }
    pair.rest().await;
    assert!(!pair.served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_parked_connections_and_finishes_requests() {
    for mut pair in [Pair::new(), Pair::parked().await] {
        pair.stop.stop();
        let (received, took) = pair.end().await;
        assert_eq!((received.as_str(), took.as_secs()), ("", 0));
        pair.served.await.unwrap();
    }
    let mut pair = Pair::parked().await;
    pair.send("GET /slow HTTP/1.1\r\n\r\n").await;
    pair.rest().await;
    pair.stop.stop();
    pair.rest().await;
    pair.handler.open.notify_one();
    let (received, took) = pair.end().await;
    assert!(received.contains("connection: close"), "{received}");
    assert!(received.ends_with("/slow "), "{received}");
    assert_eq!(took.as_secs(), 0);
    pair.served.await.unwrap();
}

/// Requests at each millisecond around the moment of parking.
#[tokio::test(start_paused = true)]
async fn no_request_is_lost_at_the_moment_of_parking() {
    let mut pair = Pair::parked().await;
    let mut asked = 1;
    for step in 0..60 {
        sleep(PARK_AFTER - Duration::from_millis(30) + Duration::from_millis(step)).await;
        pair.send("GET /a HTTP/1.1\r\n\r\n").await;
        assert!(pair.response().await.ends_with("/a "));
        asked += 1;
        assert_eq!(pair.handler.targets().len(), asked);
    }
}

/// The memory of a parked connection, without its socket.
#[tokio::test]
async fn a_parked_connection_is_small() {
    let stop = StopSwitch::new();
    let handle = |request: IncomingRequest| async {
        Response::new(Full::<Bytes>::default()).map(|body| {
            drop(request);
            body
        })
    };
    let shared = Arc::new(ListenerShared::new(TIMEOUTS, handle));
    let (_, stream) = duplex(1);
    let task = size_of_val(&serve(stream, shared, stop.signal(), ()));
    drop(stop);
    assert!(task <= 640, "{task} bytes");
}

/// Requests come on many parked connections at once.
#[tokio::test(start_paused = true)]
async fn parked_connections_all_wake() {
    let mut pairs = Vec::new();
    for _ in 0..500 {
        let mut pair = Pair::new();
        pair.send("GET /first HTTP/1.1\r\n\r\n").await;
        assert!(pair.response().await.ends_with("/first "));
        pairs.push(pair);
    }
    sleep(SECOND).await;
    assert!(pairs.iter().all(Pair::is_parked));
    let (done, mut answers) = mpsc::channel(1);
    for mut pair in pairs {
        let done = done.clone();
        tokio::spawn(async move {
            pair.send("GET /a HTTP/1.1\r\n\r\n").await;
            done.send(pair.response().await).await.unwrap();
        });
    }
    drop(done);
    let mut count = 0;
    while let Some(answer) = answers.recv().await {
        assert!(answer.ends_with("/a "), "{answer}");
        count += 1;
    }
    assert_eq!(count, 500);
}
