//! What operators see.

use alexa_gateway::lab::mock::token::EXAMPLE_SKILL;
use alexa_gateway::region::Region;
use http::Method;

use crate::support::alexa::{FakeAlexa, json};
use crate::support::gateway::TestGateway;
use crate::support::{NAME, token};

#[tokio::test]
async fn the_status_page_shows_traffic_per_region_and_skill() {
    let alexa = FakeAlexa::start(|seen| async move {
        if seen.region == Region::Fe {
            json(429, "{}")
        } else {
            json(200, "{}")
        }
    })
    .await;
    let quota =
        "[limits.profile]\nskill = { requests = 5, per = '1s' }\n[retry]\nmax_attempts = 1\n";
    let gateway = TestGateway::start(&format!("{quota}{}", alexa.config())).await;
    let (client, eu, fe) = (gateway.client(), token(Region::Eu), token(Region::Fe));
    for token in [&eu, &eu, &fe] {
        client.get(NAME).token(token).send().await;
    }
    let reply = gateway
        .admin()
        .get("/-/status")
        .send()
        .await
        .expect_status(200);
    assert_eq!(reply.header("content-type"), "application/json");
    let status = reply.json();
    let (eu, fe) = (
        &status["regions"]["eu"]["traffic"],
        &status["regions"]["fe"]["traffic"],
    );
    assert_eq!(
        (&eu["requests"], &eu["hits"], &eu["upstream_attempts"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!(fe["upstream_429"], 1);
    let skill = &status["skills"][EXAMPLE_SKILL];
    assert_eq!(
        (&skill["requests"], &skill["upstream_429"]),
        (&3.into(), &1.into())
    );
    let lane = &status["regions"]["eu"]["limits"]["profile"];
    assert_eq!(
        lane["quota_skill"],
        serde_json::json!({ "requests": 5, "per": "1s" })
    );
    assert_eq!(
        (&lane["queued"], &lane["in_flight"]),
        (&0.into(), &0.into())
    );
    assert_eq!(status["cache"]["entries"], 1);
    assert_eq!(
        (&status["flights"], &status["waiters"]),
        (&0.into(), &0.into())
    );
    assert!(status["last_reload"].is_null());
}

#[tokio::test]
async fn metrics_have_bounded_labels_and_no_ids() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Eu));
    let device = "amzn1.ask.device.SECRET";
    client
        .get(&format!("/v2/devices/{device}/settings/System.timeZone"))
        .token(&token)
        .send()
        .await;
    client
        .get(&format!("/v1/devices/{device}/odd"))
        .token(&token)
        .send()
        .await;
    let reply = gateway
        .admin()
        .get("/metrics")
        .send()
        .await
        .expect_status(200);
    assert!(
        reply
            .header("content-type")
            .starts_with("application/openmetrics-text")
    );
    let text = reply.text();
    for line in [
        r#"alexa_gateway_requests_total{region="eu",family="profile",cache="miss",status="200"} 1"#,
        r#"alexa_gateway_requests_total{region="eu",family="passthrough",cache="bypass",status="200"} 1"#,
        r#"alexa_gateway_upstream_attempts_total{region="eu",family="profile",outcome="200"} 1"#,
        r#"alexa_gateway_cache_entries 1"#,
        r#"alexa_gateway_errors_total{kind="quota"} 0"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(
        !text.contains("SECRET") && !text.contains(EXAMPLE_SKILL),
        "{text}"
    );
}

#[tokio::test]
async fn the_admin_listener_only_answers_questions() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let admin = gateway.admin();
    admin.get("/-/healthy").send().await.expect_status(200);
    admin
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await
        .expect_status(404);
    admin
        .ask(Method::POST, "/-/status")
        .send()
        .await
        .expect_status(405);
    assert_eq!(alexa.count(), 0, "no call is made from here");
}
