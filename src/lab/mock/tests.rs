//! The mock over real sockets, as its clients meet it.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::*;

const NAME: &str = "/v2/persons/~current/profile/name";

struct Caller(Client<HttpConnector, Full<Bytes>>, Mock);

#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
}

impl Caller {
    async fn new(behaviour: MockBehaviour) -> Self {
        let config = MockConfig {
            behaviour,
            ..MockConfig::default()
        };
        let mock = Mock::start(config).await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self(client, mock)
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: impl Into<Bytes>,
    ) -> Result<Reply, Box<dyn std::error::Error>> {
        let host = self.1.address(Region::Na);
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{host}{path}"))
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(body.into()))?;
        let (head, body) = self.0.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            json: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    async fn name_of(&self, token: &str) -> Reply {
        self.call("GET", NAME, token, "").await.unwrap()
    }
}

#[tokio::test]
async fn every_answer_belongs_to_its_token() {
    let caller = Caller::new(MockBehaviour::default()).await;
    let tokens = [
        TokenSpec::default().mint(),
        TokenSpec::default().mint(),
        "Atza|x".into(),
    ];
    for token in &tokens {
        let reply = caller.name_of(token).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["content-type"], "application/json");
        assert!(reply.headers.contains_key("content-length"));
        assert_eq!(reply.json, json!({"name": Person::of_token(token).name}));
    }
    let shape = NameShape::String;
    caller.1.reconfigure(MockBehaviour {
        name_shape: shape,
        ..MockBehaviour::default()
    });
    let reply = caller.name_of(&tokens[0]).await;
    assert_eq!(reply.json, json!(Person::of_token(&tokens[0]).name));
    assert_eq!(caller.1.counters().region(Region::Na).operations[NAME], 4);
}

#[tokio::test]
async fn a_token_that_expired_or_is_for_another_region_is_refused() {
    let caller = Caller::new(MockBehaviour::default()).await;
    let issued_at = SystemTime::UNIX_EPOCH;
    let expired = TokenSpec {
        issued_at,
        ..TokenSpec::default()
    }
    .mint();
    let abroad = TokenSpec {
        region: Region::Fe,
        ..TokenSpec::default()
    }
    .mint();
    for token in [expired, abroad, String::new()] {
        let reply = caller.name_of(&token).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json["code"]),
            (401, &json!("UNAUTHORIZED"))
        );
    }
    let denied = TokenSpec {
        scenario: TokenScenario::NoConsent,
        ..TokenSpec::default()
    }
    .mint();
    assert_eq!(caller.name_of(&denied).await.status, 403);
}

#[tokio::test]
async fn a_skill_over_its_quota_is_throttled_and_no_other() {
    let behaviour = MockBehaviour {
        skill_quota: Some("2/1h".parse().unwrap()),
        retry_after: RetryAfter::Seconds,
        ..MockBehaviour::default()
    };
    let caller = Caller::new(behaviour.clone()).await;
    let skill = "amzn1.ask.skill.other".to_owned();
    let other = TokenSpec {
        skill,
        ..TokenSpec::default()
    }
    .mint();
    let token = TokenSpec::default().mint();
    for (token, status) in [(&token, 200), (&token, 200), (&token, 429), (&other, 200)] {
        assert_eq!(caller.name_of(token).await.status, status);
    }
    let wait = caller.name_of(&token).await.headers["retry-after"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!((3590..=3600).contains(&wait.parse().unwrap()), "{wait}");
    assert_eq!(
        caller.1.counters().skills[token::EXAMPLE_SKILL].throttled,
        2
    );
    let skill_quota = Some("3/1h".parse().unwrap());
    caller.1.reconfigure(MockBehaviour {
        skill_quota,
        ..behaviour
    });
    assert_eq!(caller.name_of(&token).await.status, 200);
    assert_eq!(caller.name_of(&token).await.status, 429);
}

#[tokio::test]
async fn scripted_outcomes_happen_in_order() {
    let caller = Caller::new(MockBehaviour::default()).await;
    let control = |verb, path, body| caller.call(verb, path, "", body);
    let names = r#"["500", "reset", "ok", "cut", "html", "slow"]"#;
    assert_eq!(
        control("POST", "/-/script", names).await.unwrap().status,
        204
    );
    let call = || caller.call("GET", NAME, "Atza|x", "");
    let value = json!({"name": Person::of_token("Atza|x").name});
    assert_eq!(call().await.unwrap().status, 500);
    let reset = format!("{:?}", call().await.unwrap_err());
    assert!(reset.contains("ConnectionReset"), "{reset}");
    assert_eq!(call().await.unwrap().json, value);
    let cut = format!("{:?}", call().await.unwrap_err());
    assert!(
        cut.contains("IncompleteMessage") || cut.contains("UnexpectedEof"),
        "{cut}"
    );
    assert_eq!(call().await.unwrap().headers["content-type"], "text/html");
    assert_eq!(call().await.unwrap().json, value);
    let seen = caller.1.counters().region(Region::Na);
    assert_eq!((seen.requests, seen.faults[&Fault::Reset]), (6, 1));
    assert_eq!(
        control("POST", "/-/script", r#"["okay"]"#)
            .await
            .unwrap()
            .status,
        400
    );
}

#[tokio::test]
async fn other_calls_are_told_what_arrived() {
    let caller = Caller::new(MockBehaviour::default()).await;
    let body = "x".repeat(300_000);
    let hash = blake3::hash(body.as_bytes()).to_hex();
    let echo = caller
        .call("PUT", "/v1/lists/7?version=2", "Atza|x", body)
        .await
        .unwrap();
    let told = json!({
        "method": "PUT",
        "path": "/v1/lists/7?version=2",
        "body_bytes": 300_000,
        "body_blake3": hash.as_str(),
    });
    assert_eq!((echo.status.as_u16(), echo.json), (200, told));
    let speak = caller
        .call("POST", "/v1/directives", "Atza|x", "{}")
        .await
        .unwrap();
    assert_eq!(speak.status, 204);
    let blocked = caller.call("GET", NAME, "Atza|x", "{}").await.unwrap();
    assert_eq!(
        (
            blocked.status.as_u16(),
            &blocked.headers["content-type"] == "text/html"
        ),
        (403, true)
    );
}

#[tokio::test]
async fn shutdown_closes_even_a_stalled_connection() {
    let Caller(client, mock) = Caller::new(MockBehaviour::default()).await;
    mock.script(Region::Na, [ScriptStep::Fault(Fault::Stall)]);
    let uri = format!("http://{}{NAME}", mock.address(Region::Na));
    let request = Request::get(uri).header("authorization", "Bearer Atza|x");
    let stalled = tokio::spawn(client.request(request.body(Full::default()).unwrap()));
    while mock.counters().requests() == 0 {
        tokio::task::yield_now().await;
    }
    mock.shutdown().await;
    assert!(stalled.await.unwrap().is_err());
}

#[tokio::test]
async fn dropping_a_mock_frees_its_ports() {
    let Caller(_, mock) = Caller::new(MockBehaviour::default()).await;
    let na = mock.address(Region::Na);
    drop(mock);
    let again = || {
        Mock::start(MockConfig {
            na,
            ..MockConfig::default()
        })
    };
    while again().await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn http2_without_tls_is_served() {
    let caller = Caller::new(MockBehaviour::default()).await;
    let client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let caller = Caller(client, caller.1);
    caller.1.script(
        Region::Na,
        ["reset", "ok"].map(|name| name.parse().unwrap()),
    );
    assert!(caller.call("GET", NAME, "Atza|x", "").await.is_err());
    assert_eq!(caller.name_of("Atza|x").await.status, 200);
    assert_eq!(caller.1.counters().connections(), 1);
}

#[tokio::test]
async fn an_address_on_a_network_is_refused() {
    let na = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = Mock::start(MockConfig {
        na,
        ..MockConfig::default()
    })
    .await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
