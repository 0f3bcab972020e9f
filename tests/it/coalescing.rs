//! One call for any number of equal requests, whoever leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alexa_gateway::region::Region;
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::support::alexa::{Body, FakeAlexa, empty, json};
use crate::support::client::Reply;
use crate::support::gateway::TestGateway;
use crate::support::raw::Raw;
use crate::support::{NAME, eventually, token};

/// An Alexa that answers when the gate is opened.
async fn gated(status: u16) -> (FakeAlexa, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let alexa = FakeAlexa::start(move |_| {
        let opened = Arc::clone(&opened);
        async move {
            opened.acquire().await.unwrap().forget();
            match status {
                204 => empty(204),
                status => json(status, r#"{"name":"Jane"}"#),
            }
        }
    })
    .await;
    (alexa, gate)
}

/// A deadline and time-outs that no busy machine gets near to.
const PATIENT: &str = "[deadline]\ndefault = '8s'\n[upstream]\nanswer_timeout = '8s'\n";

async fn storm(gateway: &TestGateway, token: &str, requests: usize) -> JoinSet<Reply> {
    let client = gateway.client();
    let mut storm = JoinSet::new();
    for _ in 0..requests {
        let (client, token) = (client.clone(), token.to_owned());
        storm.spawn(async move { client.get(NAME).token(&token).send().await });
    }
    gateway.waiting(requests).await;
    storm
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_equal_requests_are_one_call_whatever_the_answer() {
    for (status, ttl) in [
        (200, "10s"),
        (200, "0s"),
        (204, "10s"),
        (401, "10s"),
        (403, "10s"),
        (404, "10s"),
        (429, "10s"),
        (500, "10s"),
    ] {
        let (alexa, gate) = gated(status).await;
        let config = format!(
            "{PATIENT}[cache]\nttl = '{ttl}'\n[retry]\nmax_attempts = 1\n{}",
            alexa.config()
        );
        let gateway = TestGateway::start(&config).await;
        let storm = storm(&gateway, &token(Region::Na), 1000).await;
        assert_eq!(gateway.gateway().flights(), (1, 1000));
        gate.add_permits(1000);
        let replies = storm.join_all().await;
        assert!(
            replies.iter().all(|reply| reply.status == status),
            "{status}"
        );
        let collapsed = replies
            .iter()
            .filter(|reply| reply.cache_status().contains("; collapsed"));
        assert_eq!(collapsed.count(), 999, "{status} {ttl}");
        assert_eq!(alexa.count(), 1, "{status} {ttl}");
        assert_eq!(gateway.gateway().flights(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_made_once_for_all() {
    let (alexa, gate) = gated(500).await;
    let gateway = TestGateway::start(&format!("{PATIENT}{}", alexa.config())).await;
    let storm = storm(&gateway, &token(Region::Na), 200).await;
    gate.add_permits(1000);
    assert!(
        storm
            .join_all()
            .await
            .iter()
            .all(|reply| reply.status == 500)
    );
    assert_eq!(alexa.count(), 3);
}

/// Sends the request that starts the flight, on a connection of its own.
async fn leader(gateway: &TestGateway, token: &str) -> Raw {
    let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
    raw.send(format!(
        "GET {NAME} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {token}\r\n\r\n"
    ))
    .await;
    gateway.waiting(1).await;
    raw
}

/// Lets nine more join, and the leader leave.
async fn leave(gateway: &TestGateway, token: &str, leader: Raw) -> JoinSet<Reply> {
    let client = gateway.client();
    let mut others = JoinSet::new();
    for _ in 0..9 {
        let (client, token) = (client.clone(), token.to_owned());
        others.spawn(async move { client.get(NAME).token(&token).send().await });
    }
    gateway.waiting(10).await;
    drop(leader);
    gateway.waiting(9).await;
    others
}

#[track_caller]
fn expect_all_served(replies: &[Reply]) {
    assert_eq!(replies.len(), 9);
    for reply in replies {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.cache_status().contains("; collapsed"), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_may_leave_while_the_call_is_on_its_way() {
    let (alexa, gate) = gated(200).await;
    let gateway = TestGateway::start(&format!("{PATIENT}{}", alexa.config())).await;
    let token = token(Region::Na);
    let leader = leader(&gateway, &token).await;
    eventually("the call is on its way", || alexa.count() == 1).await;
    let others = leave(&gateway, &token, leader).await;
    gate.add_permits(1);
    expect_all_served(&others.join_all().await);
    assert_eq!(alexa.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_may_leave_while_the_call_waits_for_its_quota() {
    let (alexa, gate) = gated(200).await;
    gate.add_permits(100);
    let quota = "[limits.profile]\nregion = { requests = 1, per = '2s' }\n";
    let gateway = TestGateway::start(&format!("{PATIENT}{quota}{}", alexa.config())).await;
    gateway
        .client()
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await
        .expect_status(200);
    let token = token(Region::Na);
    let leader = leader(&gateway, &token).await;
    let others = leave(&gateway, &token, leader).await;
    assert_eq!(alexa.count(), 1, "the second call still waits");
    expect_all_served(&others.join_all().await);
    assert_eq!(alexa.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_may_leave_while_the_answer_comes() {
    let (finish, finished) = watch::channel(false);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let alexa = FakeAlexa::streaming(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut finished = finished.clone();
        async move {
            let (mut send, body) = http_body_util::channel::Channel::new(1);
            tokio::spawn(async move {
                send.send_data(r#"{"name":"#.into()).await.unwrap();
                finished.wait_for(|&finished| finished).await.unwrap();
                send.send_data(r#""Jane"}"#.into()).await.unwrap();
            });
            let mut answer = json(200, "");
            *answer.body_mut() =
                Body::new(body.map_err(|never: std::convert::Infallible| match never {}));
            answer
        }
    })
    .await;
    let gateway = TestGateway::start(&format!("{PATIENT}{}", alexa.config())).await;
    let token = token(Region::Na);
    let leader = leader(&gateway, &token).await;
    eventually("the call is on its way", || {
        calls.load(Ordering::SeqCst) == 1
    })
    .await;
    let others = leave(&gateway, &token, leader).await;
    finish.send_replace(true);
    let replies = others.join_all().await;
    expect_all_served(&replies);
    assert_eq!(replies[0].json()["name"], "Jane");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_may_leave_between_two_attempts() {
    let calls = AtomicUsize::new(0);
    let alexa = FakeAlexa::start(move |_| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let mut answer = json(if first { 429 } else { 200 }, "{}");
            answer
                .headers_mut()
                .insert("retry-after", "2".parse().unwrap());
            answer
        }
    })
    .await;
    let gateway = TestGateway::start(&format!("{PATIENT}{}", alexa.config())).await;
    let token = token(Region::Na);
    let leader = leader(&gateway, &token).await;
    eventually("the first attempt is answered", || alexa.count() == 1).await;
    let others = leave(&gateway, &token, leader).await;
    expect_all_served(&others.join_all().await);
    assert_eq!(alexa.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_stored_even_if_nobody_stayed() {
    let (alexa, gate) = gated(200).await;
    let gateway = TestGateway::start(&format!("{PATIENT}{}", alexa.config())).await;
    let token = token(Region::Na);
    let leader = leader(&gateway, &token).await;
    eventually("the call is on its way", || alexa.count() == 1).await;
    drop(leader);
    gateway.waiting(0).await;
    gate.add_permits(1);
    eventually("the flight has landed", || {
        gateway.gateway().flights().0 == 0
    })
    .await;
    gateway
        .client()
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_hit();
    assert_eq!(alexa.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_any_more_is_not_sent() {
    let (alexa, gate) = gated(200).await;
    gate.add_permits(100);
    let quota = "[limits.profile]\nregion = { requests = 1, per = '2s' }\n";
    let gateway = TestGateway::start(&format!("{PATIENT}{quota}{}", alexa.config())).await;
    gateway
        .client()
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await
        .expect_status(200);
    let leader = leader(&gateway, &token(Region::Na)).await;
    drop(leader);
    eventually("the flight has ended", || {
        gateway.gateway().flights() == (0, 0)
    })
    .await;
    let next = gateway
        .client()
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await;
    assert_eq!(next.expect_status(200).status, 200);
    assert_eq!(alexa.count(), 2, "the place in the queue was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_are_bounded() {
    let (alexa, gate) = gated(200).await;
    let config = format!(
        "{PATIENT}[coalesce]\nmax_waiters_per_key = 5\n{}",
        alexa.config()
    );
    let gateway = TestGateway::start(&config).await;
    let token = token(Region::Na);
    let storm = storm(&gateway, &token, 5).await;
    let refused = gateway.client().get(NAME).token(&token).send().await;
    refused.expect_own_error(503, "proxy_internal_response");
    gate.add_permits(1);
    assert!(
        storm
            .join_all()
            .await
            .iter()
            .all(|reply| reply.status == 200)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_in_a_hurry_leaves_alone() {
    let (alexa, gate) = gated(200).await;
    let gateway = TestGateway::start(&format!("{PATIENT}{}", alexa.config())).await;
    let token = token(Region::Na);
    let (client, hurried) = (gateway.client(), token.clone());
    let hurried = tokio::spawn(async move {
        client
            .get(NAME)
            .token(&hurried)
            .header("alexa-gateway-timeout-ms", "300")
            .send()
            .await
    });
    gateway.waiting(1).await;
    let patient = {
        let (client, token) = (gateway.client(), token.clone());
        tokio::spawn(async move { client.get(NAME).token(&token).send().await })
    };
    hurried
        .await
        .unwrap()
        .expect_own_error(504, "http_response_timeout");
    gate.add_permits(1);
    patient.await.unwrap().expect_status(200);
    assert_eq!(alexa.count(), 1);
}
