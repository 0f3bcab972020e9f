//! Which region gets a request, and that nothing else ever does.

use alexa_gateway::region::Region;

use crate::support::alexa::{FakeAlexa, json};
use crate::support::gateway::TestGateway;
use crate::support::raw::Raw;
use crate::support::{NAME, token};

/// An Alexa whose answers name their region.
async fn regional() -> FakeAlexa {
    FakeAlexa::start(|seen| async move { json(200, format!(r#"{{"name":"{}"}}"#, seen.region)) })
        .await
}

const DEFAULT_FE: &str = "[routing]\ndefault_region = 'fe'\n";

#[tokio::test]
async fn the_region_is_read_from_what_a_request_says() {
    let alexa = regional().await;
    let gateway = TestGateway::start(&format!("{DEFAULT_FE}{}", alexa.config())).await;
    let client = gateway.client();
    let endpoint = "alexa-api-endpoint";
    let na = token(Region::Na);
    for (ask, region) in [
        (
            client
                .get(NAME)
                .token(&na)
                .header(endpoint, "https://api.eu.amazonalexa.com"),
            "eu",
        ),
        (
            client
                .get(NAME)
                .token(&na)
                .header(endpoint, "https://api.fe.amazon.com/"),
            "fe",
        ),
        (client.get(&format!("/eu{NAME}")).token(&na), "eu"),
        (client.get(NAME).token(&na), "na"),
        (client.get(NAME).token("Atza|opaque"), "fe"),
    ] {
        let reply = ask.send().await.expect_status(200);
        assert_eq!(reply.json()["name"], region);
    }
    let targets: Vec<_> = alexa.seen().into_iter().map(|seen| seen.target).collect();
    assert!(targets.iter().all(|target| target == NAME), "{targets:?}");
}

#[tokio::test]
async fn host_and_absolute_form_name_regions_and_upstream_sees_its_own_name() {
    let alexa = regional().await;
    let gateway = TestGateway::start(&format!("{DEFAULT_FE}{}", alexa.config())).await;
    let own = format!("http://api.eu.amazonalexa.com{NAME}");
    for (target, host) in [(NAME, "api.eu.amazonalexa.com"), (&own, "gateway.internal")] {
        let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer t\r\n\r\n");
        raw.send(head).await;
        let answer = raw.read_answer().await;
        assert!(answer.ends_with(r#"{"name":"eu"}"#), "{answer}");
    }
    let seen = &alexa.seen()[0];
    assert_eq!(seen.headers["host"], alexa.address(Region::Eu).to_string());
    assert_eq!(seen.headers["via"], "1.1 alexa-gateway");
}

#[tokio::test]
async fn a_listener_can_belong_to_a_region() {
    let alexa = regional().await;
    let config = format!(
        "[server]\nlisteners = ['127.0.0.1:0', {{ address = '127.0.0.1:0', region = 'eu' }}]\n{}",
        alexa.config()
    );
    let gateway = TestGateway::start(&config).await;
    let client = crate::support::client::Client::new(gateway.server.addresses()[1]);
    let reply = client.get(NAME).token("opaque").send().await;
    assert_eq!(reply.json()["name"], "eu");
}

#[tokio::test]
async fn a_host_outside_the_table_is_misdirected_and_never_dialled() {
    let alexa = regional().await;
    let evil = regional().await;
    let evil_host = evil.address(Region::Na).to_string();
    let gateway = TestGateway::start(&alexa.config()).await;
    let client = gateway.client();
    for endpoint in [
        format!("http://{evil_host}"),
        "https://api---fe.amazon.com.rproxy.goskope.com".to_owned(),
        format!("https://api.eu.amazonalexa.com@{evil_host}"),
    ] {
        let ask = client
            .get(NAME)
            .token("t")
            .header("alexa-api-endpoint", &endpoint);
        ask.send().await.expect_own_error(421, "http_request_error");
    }
    for target in [
        format!("http://{evil_host}{NAME}"),
        format!("http://api.amazonalexa.com@{evil_host}{NAME}"),
    ] {
        let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
        raw.send(format!(
            "GET {target} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer t\r\n\r\n"
        ))
        .await;
        let answer = raw.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    }
    assert_eq!((alexa.count(), evil.count()), (0, 0));
}

#[tokio::test]
async fn paths_that_could_reach_another_resource_are_refused() {
    let alexa = regional().await;
    let gateway = TestGateway::start(&alexa.config()).await;
    for target in [
        "//evil.example/v2",
        "/eu//evil.example/v2",
        "/v2/persons/~current/profile/../profile/name",
        "/v2/persons/%2e%2e/x",
        "/v2/devices/a%2Fb/settings/System.timeZone",
        "/v2/devices/a%5cb/settings/System.timeZone",
    ] {
        let mut raw = Raw::connect(gateway.server.addresses()[0]).await;
        raw.send(format!(
            "GET {target} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer t\r\n\r\n"
        ))
        .await;
        let answer = raw.read_answer().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert_eq!(alexa.count(), 0);
}

#[tokio::test]
async fn a_region_that_contradicts_the_token_wins_and_is_counted() {
    let alexa = regional().await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let ask = gateway.client();
    let reply = ask
        .get(&format!("/eu{NAME}"))
        .token(&token(Region::Na))
        .send()
        .await;
    assert_eq!(reply.json()["name"], "eu");
    let metrics = gateway.admin().get("/metrics").send().await;
    let line = r#"alexa_gateway_region_contradictions_total{region="eu"} 1"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
}
