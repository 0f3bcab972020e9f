//! Everything that is not cached goes through untouched, streamed, once.

use std::convert::Infallible;

use alexa_gateway::region::Region;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;

use crate::support::alexa::{Body, FakeAlexa, empty, json};
use crate::support::client::Client;
use crate::support::gateway::TestGateway;
use crate::support::{token, within};

#[tokio::test]
async fn method_target_headers_and_body_arrive_as_they_were_sent() {
    let alexa = FakeAlexa::start(|_| async {
        let mut answer = json(201, "made");
        answer
            .headers_mut()
            .append("set-cookie", "a=1".parse().unwrap());
        answer
            .headers_mut()
            .append("set-cookie", "b=2".parse().unwrap());
        answer
            .headers_mut()
            .insert("cache-control", "max-age=5".parse().unwrap());
        answer
            .headers_mut()
            .insert("etag", "\"x\"".parse().unwrap());
        answer.headers_mut().insert("x-hop", "1".parse().unwrap());
        answer
            .headers_mut()
            .insert("connection", "x-hop".parse().unwrap());
        answer
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let body = Bytes::from((0..=255).cycle().take(100_000).collect::<Vec<u8>>());
    let token = token(Region::Fe);
    let target = "/v1/users/x%7Ey/skills/~current/things?b=%7e&a=1&&c";
    for (client, via) in [
        (gateway.client(), "1.1 alexa-gateway"),
        (
            Client::h2c(gateway.server.addresses()[0]),
            "2 alexa-gateway",
        ),
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "REPORT"] {
            let ask = client.ask(Method::from_bytes(method.as_bytes()).unwrap(), target);
            let ask = ask
                .token(&token)
                .header("content-type", "application/x-odd")
                .header("x-a", "1");
            let reply = ask
                .header("accept-encoding", "gzip")
                .body(body.clone())
                .send()
                .await;
            assert_eq!((reply.status.as_u16(), reply.text()), (201, "made"));
            assert_eq!(reply.headers.get_all("set-cookie").iter().count(), 2);
            assert_eq!(
                (reply.header("cache-control"), reply.header("etag")),
                ("max-age=5", "\"x\"")
            );
            assert_eq!(reply.header("x-hop"), "");
            let seen = alexa.seen().pop().unwrap();
            assert_eq!((seen.region, seen.method.as_str()), (Region::Fe, method));
            assert_eq!(seen.target, target);
            assert_eq!(seen.body, body);
            assert_eq!(seen.headers["authorization"], format!("Bearer {token}"));
            assert_eq!(seen.headers["content-type"], "application/x-odd");
            assert_eq!(seen.headers["accept-encoding"], "gzip");
            assert_eq!(seen.headers["x-a"], "1");
            assert_eq!(seen.headers["via"], via);
        }
    }
}

#[tokio::test]
async fn a_progressive_response_is_sent_once_even_if_it_fails() {
    for status in [500, 503, 429] {
        let alexa = FakeAlexa::start(move |_| async move { json(status, "{}") }).await;
        let gateway = TestGateway::start(&alexa.config()).await;
        let ask = gateway.client();
        let ask = ask
            .ask(Method::POST, "/v1/directives")
            .token(&token(Region::Na))
            .body("{}");
        ask.send().await.expect_status(status);
        assert_eq!(alexa.count(), 1);
    }
}

#[tokio::test]
async fn a_get_never_carries_a_body_to_alexa() {
    let alexa = FakeAlexa::start(|_| async { empty(204) }).await;
    let gateway = TestGateway::start(&alexa.config()).await;
    for target in ["/v1/alerts/reminders", "/v2/persons/~current/profile/name"] {
        let ask = gateway.client();
        let ask = ask.get(target).token(&token(Region::Na)).body("{}");
        ask.send().await.expect_status(204);
        let seen = alexa.seen().pop().unwrap();
        assert_eq!(seen.body.len(), 0);
        assert!(!seen.headers.contains_key("content-length"), "{seen:?}");
        assert!(!seen.headers.contains_key("transfer-encoding"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_relayed_and_not_followed() {
    let alexa = FakeAlexa::start(|_| async {
        let mut answer = empty(307);
        answer
            .headers_mut()
            .insert("location", "http://evil.example/".parse().unwrap());
        answer
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    for target in ["/v1/alerts/reminders", "/v2/persons/~current/profile/name"] {
        let reply = gateway
            .client()
            .get(target)
            .token(&token(Region::Na))
            .send()
            .await;
        assert_eq!(
            reply.expect_status(307).header("location"),
            "http://evil.example/"
        );
    }
}

/// Upstream echoes each piece as it comes. The client sends a piece only when it
/// has seen the one before, so nothing on the way may wait for the whole.
#[tokio::test]
async fn bodies_are_streamed_both_ways_at_once() {
    let alexa = FakeAlexa::streaming(|request: Request<hyper::body::Incoming>| async {
        let mut answer = empty(200);
        *answer.body_mut() = Body::new(request.into_body().map_err(Into::into));
        answer
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    for h2 in [false, true] {
        let (send, receive) = mpsc::channel::<Bytes>(1);
        let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            let mut receive = receive;
            while let Some(piece) = receive.recv().await {
                sender.send_data(piece).await.unwrap();
            }
        });
        let client = legacy::Client::builder(TokioExecutor::new())
            .http2_only(h2)
            .build_http();
        let request = Request::post(format!("http://{}/v1/echo", gateway.server.addresses()[0]))
            .header("authorization", "Bearer t")
            .body(body)
            .unwrap();
        let mut answer = within(
            "the head comes before the body ends",
            client.request(request),
        )
        .await
        .unwrap()
        .into_body();
        for n in 0..50 {
            let piece = Bytes::from(format!("piece {n};"));
            send.send(piece.clone()).await.unwrap();
            let mut echoed = Vec::new();
            while echoed.len() < piece.len() {
                let frame = within("the piece comes back", answer.frame())
                    .await
                    .unwrap()
                    .unwrap();
                echoed.extend_from_slice(&frame.into_data().unwrap());
            }
            assert_eq!(echoed, piece);
        }
        drop(send);
        let rest = within("the answer ends", answer.collect()).await.unwrap();
        assert!(rest.to_bytes().is_empty());
    }
}

/// An endless body meets an upstream that does not read: what the gateway takes in
/// must be bounded by its buffers.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_no_faster_than_upstream_reads() {
    let alexa = FakeAlexa::streaming(|request: Request<hyper::body::Incoming>| async move {
        let _unread = request;
        std::future::pending().await
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (sent, mut taken) = tokio::sync::watch::channel(0_u64);
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        let piece = Bytes::from(vec![0; 1 << 20]);
        while sender.send_data(piece.clone()).await.is_ok() {
            sent.send_modify(|sent| *sent += 1);
        }
    });
    let client = legacy::Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!(
        "http://{}/v1/upload",
        gateway.server.addresses()[0]
    ))
    .header("authorization", "Bearer t")
    .body(StreamBody::new(http_body_util::BodyStream::new(body)))
    .unwrap();
    let upload = tokio::spawn(client.request(request));
    // The first pieces go into buffers of sockets; then everything stands still.
    let mut pieces = 0;
    while tokio::time::timeout(std::time::Duration::from_secs(1), taken.changed())
        .await
        .is_ok()
    {
        pieces = *taken.borrow_and_update();
        assert!(
            pieces < 64,
            "the gateway swallows {pieces} MiB that nobody reads"
        );
    }
    assert!(pieces > 0);
    upload.abort();
}
