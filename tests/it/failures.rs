//! When Alexa is down, slow, cut off or throttled: what a skill sees.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alexa_gateway::lab::mock::{Fault, Mock, MockConfig, ScriptStep};
use alexa_gateway::region::Region;
use tokio::time::Instant;

use crate::support::alexa::{FakeAlexa, json, upstreams};
use crate::support::gateway::TestGateway;
use crate::support::{NAME, token};

async fn mocked(config: &str) -> (Mock, TestGateway) {
    let mock = Mock::start(MockConfig::default()).await.unwrap();
    let gateway = TestGateway::start(&format!("{config}{}", upstreams(|r| mock.address(r)))).await;
    (mock, gateway)
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_502_of_our_own() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = TestGateway::start(&upstreams(|_| nobody)).await;
    let client = gateway.client();
    for target in [NAME, "/v1/alerts/reminders"] {
        let reply = client.get(target).token(&token(Region::Eu)).send().await;
        let reply = reply.expect_own_error(502, "connection_refused");
        assert_eq!(
            reply.json()["message"],
            "alexa-gateway: upstream eu: connection refused"
        );
    }
}

#[tokio::test]
async fn a_passing_fault_is_not_seen() {
    for fault in [
        Fault::Reset,
        Fault::Cut,
        Fault::Error500,
        Fault::Unavailable503,
        Fault::Throttle429,
    ] {
        let (mock, gateway) = mocked("").await;
        mock.script(Region::Na, [ScriptStep::Fault(fault), ScriptStep::Normal]);
        let reply = gateway
            .client()
            .get(NAME)
            .token(&token(Region::Na))
            .send()
            .await;
        reply.expect_status(200);
        assert_eq!(mock.counters().requests(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn a_lasting_fault_is_told_as_it_is() {
    for (fault, error) in [
        (Fault::Reset, "connection_terminated"),
        (Fault::Cut, "http_response_incomplete"),
    ] {
        let (mock, gateway) = mocked("").await;
        mock.script(Region::Na, [ScriptStep::Fault(fault); 3]);
        let reply = gateway
            .client()
            .get(NAME)
            .token(&token(Region::Na))
            .send()
            .await;
        reply.expect_own_error(502, error);
        assert_eq!(mock.counters().requests(), 3, "{fault:?}");
    }
    for (fault, status, calls) in [
        (Fault::Error500, 500, 3),
        (Fault::Throttle429, 429, 3),
        (Fault::Unavailable503, 503, 2),
    ] {
        let (mock, gateway) = mocked("").await;
        mock.script(Region::Na, vec![ScriptStep::Fault(fault); 3]);
        let reply = gateway
            .client()
            .get(NAME)
            .token(&token(Region::Na))
            .send()
            .await;
        assert_eq!(
            reply.expect_status(status).header("proxy-status"),
            "",
            "it is Alexa's own"
        );
        assert_eq!(mock.counters().requests(), calls, "{fault:?}");
    }
}

#[tokio::test]
async fn a_stalled_upstream_is_a_504_at_the_deadline() {
    let (mock, gateway) =
        mocked("[upstream]\nanswer_timeout = '200ms'\n[deadline]\ndefault = '900ms'\n").await;
    mock.script(Region::Na, [ScriptStep::Fault(Fault::Stall); 9]);
    let started = Instant::now();
    let reply = gateway
        .client()
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await;
    reply.expect_own_error(504, "http_response_timeout");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert!(mock.counters().requests() >= 2, "a time-out is tried again");
}

#[tokio::test]
async fn retry_after_is_waited_for_inside_the_deadline() {
    let calls = AtomicUsize::new(0);
    let alexa = FakeAlexa::start(move |_| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let mut answer = json(if first { 429 } else { 200 }, "{}");
            answer
                .headers_mut()
                .insert("retry-after", "1".parse().unwrap());
            answer
        }
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let started = Instant::now();
    gateway
        .client()
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await
        .expect_status(200);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let alexa = FakeAlexa::start(|_| async {
        let mut answer = json(429, r#"{"message":"The skill has been throttled"}"#);
        answer
            .headers_mut()
            .insert("retry-after", "60".parse().unwrap());
        answer
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let reply = gateway
        .client()
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await;
    assert_eq!(reply.expect_status(429).header("retry-after"), "60");
    assert_eq!(alexa.count(), 1);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_half_relayed() {
    let alexa = FakeAlexa::start(|_| async { json(200, vec![b' '; 2000]) }).await;
    let config = format!("[upstream]\nmax_answer_bytes = 1000\n{}", alexa.config());
    let gateway = TestGateway::start(&config).await;
    let reply = gateway
        .client()
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await;
    reply.expect_own_error(502, "http_response_body_size");
    assert_eq!(alexa.count(), 1);
}

#[tokio::test]
async fn a_consent_refusal_passes_unchanged() {
    use alexa_gateway::lab::mock::{TokenScenario, TokenSpec};
    let (mock, gateway) = mocked("").await;
    let token = TokenSpec {
        scenario: TokenScenario::NoConsent,
        ..TokenSpec::default()
    }
    .mint();
    let reply = gateway
        .client()
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_status(403);
    assert_eq!(
        reply.text(),
        r#"{"code":"ACCESS_DENIED","message":"Access denied with reason: ACCESS_NOT_REQUESTED"}"#
    );
    assert_eq!(mock.counters().requests(), 1);
}
