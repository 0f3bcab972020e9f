//! Connections: what they may say, how long they may be silent, how they end.

use alexa_gateway::region::Region;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use crate::support::alexa::{FakeAlexa, json};
use crate::support::client::Client;
use crate::support::gateway::TestGateway;
use crate::support::raw::Raw;
use crate::support::{NAME, eventually, token, within};

async fn answering(config: &str) -> (FakeAlexa, TestGateway) {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let gateway = TestGateway::start(&format!("{config}{}", alexa.config())).await;
    (alexa, gateway)
}

fn get(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer t\r\n{more}\r\n")
}

#[tokio::test]
async fn http_2_without_tls_is_spoken_and_multiplexed() {
    let (alexa, gateway) = answering("").await;
    let client = Client::h2c(gateway.server.addresses()[0]);
    for _ in 0..3 {
        client.get(NAME).token("t").send().await.expect_status(200);
    }
    assert_eq!(alexa.count(), 1);
    let metrics = gateway.admin().get("/metrics").send().await;
    assert!(
        metrics.text().contains("alexa_gateway_connections 1\n"),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed() {
    let (_alexa, gateway) = answering("[server]\nrequest_head_timeout = '200ms'\n").await;
    for start in ["", "P", "PRI * HT", "GET / HTTP/1.1\r\nHost:"] {
        let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
        raw.send(start).await;
        let said = raw.read_to_end().await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 408"),
            "{start:?}: {said}"
        );
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let (open, opened) = watch::channel(false);
    let alexa = FakeAlexa::start(move |seen| {
        let mut opened = opened.clone();
        async move {
            if seen.target == NAME {
                opened.wait_for(|&open| open).await.unwrap();
            }
            json(200, "{}")
        }
    })
    .await;
    let config = "[server]\nidle_timeout = '200ms'\nrequest_head_timeout = '200ms'\n";
    let gateway = TestGateway::start(&format!("{config}{}", alexa.config())).await;
    let mut busy = Raw::connect(gateway.server.addresses()[0]).await;
    busy.send(get(NAME, "")).await;
    eventually("the call is on its way", || alexa.count() == 1).await;
    // Begun later and closed for its silence, this one proves that the other's time
    // for a silence has passed as well.
    let mut idle = Raw::connect(gateway.server.addresses()[0]).await;
    idle.send(get("/v1/alerts/reminders", "")).await;
    assert!(idle.read_answer().await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(idle.read_to_end().await, "");
    open.send_replace(true);
    assert!(busy.read_answer().await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(busy.read_to_end().await, "", "it is idle now");
}

/// Between its requests a connection is given up for a while: by the time that a
/// silent one is closed, which came later, that has happened.
#[tokio::test]
async fn a_connection_that_was_idle_answers_its_next_request() {
    let (alexa, gateway) = answering("[server]\nrequest_head_timeout = '600ms'\n").await;
    let address = gateway.server.addresses()[0];
    let mut raw = Raw::connect(address).await;
    for n in 1..=3 {
        let target = format!("/v1/alerts/reminders/{n}");
        let request = get(&target, "Content-Length: 3\r\n").replacen("GET", "POST", 1) + "abc";
        // In two pieces, of which the first may be what wakes the connection.
        let (start, end) = request.split_at(n);
        raw.send(start).await;
        raw.send(end).await;
        assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 OK"));
        assert_eq!(alexa.count(), n);
        let mut silent = Raw::connect(address).await;
        assert_eq!(silent.read_to_end().await, "");
    }
    raw.send("GET / HTTP/1.1\r\nHost:").await;
    let said = raw.read_to_end().await;
    assert!(
        said.starts_with("HTTP/1.1 408"),
        "a slow head is cut: {said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_that_were_idle_ask_at_once() {
    let (_alexa, gateway) = answering("[server]\nrequest_head_timeout = '2s'\n").await;
    let address = gateway.server.addresses()[0];
    let mut kept = Vec::new();
    for _ in 0..500 {
        let mut raw = Raw::connect(address).await;
        raw.send(get(NAME, "")).await;
        assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 OK"));
        kept.push(raw);
    }
    let mut silent = Raw::connect(address).await;
    assert_eq!(silent.read_to_end().await, "");
    let asking = kept.into_iter().map(|mut raw| {
        tokio::spawn(async move {
            for _ in 0..2 {
                raw.send(get(NAME, "")).await;
                assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 OK"));
            }
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        asked.await.unwrap();
    }
}

#[tokio::test]
async fn http_2_may_begin_byte_by_byte() {
    let (_alexa, gateway) = answering("").await;
    let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
    raw.0.set_nodelay(true).unwrap();
    for byte in "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".bytes() {
        raw.send([byte]).await;
        tokio::task::yield_now().await;
    }
    // An empty SETTINGS frame each way: RFC 9113, 6.5.
    raw.send([0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
    let mut frame = [0; 9];
    within("SETTINGS", raw.0.read_exact(&mut frame))
        .await
        .unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
}

#[tokio::test]
async fn a_body_that_a_hit_has_no_use_for_is_no_second_request() {
    let (alexa, gateway) = answering("").await;
    let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
    let smuggled = get("/v1/smuggled", "");
    for _ in 0..2 {
        raw.send(get(NAME, &format!("Content-Length: {}\r\n", smuggled.len())) + &smuggled)
            .await;
        assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 OK"));
    }
    raw.send(get("/v1/real", "")).await;
    assert!(raw.read_answer().await.starts_with("HTTP/1.1 200 OK"));
    let targets: Vec<_> = alexa.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, [NAME, "/v1/real"]);
}

#[tokio::test]
async fn a_get_with_a_huge_body_is_refused() {
    let (alexa, gateway) = answering("").await;
    let ask = gateway.client();
    let reply = ask.get(NAME).token("t").body(vec![0; 70_000]).send().await;
    reply.expect_own_error(413, "http_request_error");
    assert_eq!(alexa.count(), 0);
}

#[tokio::test]
async fn requests_that_are_not_one_thing_are_refused() {
    let (alexa, gateway) = answering("").await;
    for request in [
        "GET /v2 HTTP/1.1\r\n\r\n".to_owned(),
        "GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        get(NAME, "Authorization: Bearer u\r\n"),
        get(NAME, "Content-Length: 1\r\nContent-Length: 2\r\n") + "ab",
        get(NAME, "Alexa-Gateway-Timeout-Ms: soon\r\n"),
        get(NAME, "Host : x\r\n"),
        get("*", ""),
        "CONNECT api.amazonalexa.com:443 HTTP/1.1\r\nHost: api.amazonalexa.com:443\r\n\r\n"
            .to_owned(),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
        raw.send(&request).await;
        let answer = raw.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request}\n{answer}");
    }
    assert_eq!(alexa.count(), 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (_alexa, gateway) = answering("").await;
    let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
    let close = get("/v1/last", "Connection: close\r\n");
    raw.send(get(NAME, "") + &get("//", "") + &close).await;
    let said = raw.read_to_end().await;
    let statuses: Vec<_> = said
        .lines()
        .filter(|line| line.contains("HTTP/1.1 "))
        .collect();
    assert_eq!(statuses.len(), 3, "{said}");
    let at = |status| {
        said.find(status)
            .unwrap_or_else(|| panic!("{status}: {said}"))
    };
    assert!(at("200 OK") < at("400 Bad Request"), "{said}");
}

#[tokio::test]
async fn connections_are_bounded() {
    let (_alexa, gateway) = answering("[server]\nmax_connections = 2\n").await;
    let address = gateway.server.addresses()[0];
    let mut first = Raw::connect(address).await;
    let mut held = Raw::connect(address).await;
    for raw in [&mut first, &mut held] {
        raw.send(get(NAME, "")).await;
        raw.read_answer().await;
    }
    let mut waiting = Raw::connect(address).await;
    waiting.send(get(NAME, "")).await;
    let mut byte = [0];
    let early = std::time::Duration::from_millis(100);
    let answered = tokio::time::timeout(early, waiting.0.peek(&mut byte)).await;
    assert!(
        answered.is_err(),
        "the third is not accepted while two are open"
    );
    drop(first);
    assert!(waiting.read_answer().await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_in_flight_and_takes_nothing_new() {
    let (open, opened) = watch::channel(false);
    let alexa = FakeAlexa::start(move |_| {
        let mut opened = opened.clone();
        async move {
            opened.wait_for(|&open| open).await.unwrap();
            json(200, "{}")
        }
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let address = gateway.server.addresses()[0];
    let admin = gateway.admin();
    admin.get("/-/ready").send().await.expect_status(200);
    let silent = Raw::connect(address).await;
    let mut idle = Raw::connect(address).await;
    idle.send(get("//", "")).await;
    assert!(idle.read_answer().await.starts_with("HTTP/1.1 400 "));
    let mut flights = Vec::new();
    for target in [NAME, "/v1/alerts/reminders"] {
        let client = gateway.client();
        let token = token(Region::Na);
        flights.push(tokio::spawn(async move {
            client.get(target).token(&token).send().await
        }));
    }
    eventually("both calls are on their way", || alexa.count() == 2).await;
    let stopping = tokio::spawn(gateway.stop());
    for mut idle in [silent, idle] {
        let said = idle.read_to_end().await;
        assert_eq!(said, "", "an idle connection is closed at once");
    }
    admin.get("/-/ready").send().await.expect_status(503);
    admin.get("/-/healthy").send().await.expect_status(200);
    let refused = tokio::net::TcpStream::connect(address).await;
    assert!(refused.is_err(), "nobody listens any more");
    open.send_replace(true);
    for flight in flights {
        flight.await.unwrap().expect_status(200);
    }
    within("the stop", stopping).await.unwrap();
}
