//! Alexa's quota is kept, used, and waited for inside the deadline.

use std::time::Duration;

use alexa_gateway::lab::mock::token::EXAMPLE_SKILL;
use alexa_gateway::lab::mock::{Mock, MockBehaviour, MockConfig};
use alexa_gateway::region::Region;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::support::alexa::{FakeAlexa, json, upstreams};
use crate::support::gateway::TestGateway;
use crate::support::{NAME, eventually, token};

const QUOTA: &str = "[limits.profile]\nskill = { requests = 50, per = '1s' }\n";

/// An Alexa that answers more than 50 requests of a skill in any second with 429.
async fn strict_mock() -> Mock {
    let behaviour = MockBehaviour {
        skill_quota: Some("50/1s".parse().unwrap()),
        ..MockBehaviour::default()
    };
    Mock::start(MockConfig {
        behaviour,
        ..MockConfig::default()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_gets_all_of_the_quota_and_alexa_sees_no_burst() {
    let mock = strict_mock().await;
    let config = format!("{QUOTA}{}", upstreams(|region| mock.address(region)));
    let gateway = TestGateway::start(&config).await;
    let start = Instant::now();
    let mut offered = JoinSet::new();
    for n in 0..2000 {
        let (client, token) = (gateway.client(), token(Region::Eu));
        offered.spawn(async move {
            sleep_until(start + Duration::from_millis(2 * n)).await;
            client.get(NAME).token(&token).send().await
        });
    }
    let (mut served, mut refused, mut late) = (0, 0, 0);
    for reply in offered.join_all().await {
        match reply.status.as_u16() {
            200 => served += 1,
            // Admitted at the edge of its deadline, and then the machine stood still.
            504 => late += 1,
            _ => {
                let reply = reply.expect_own_error(429, "proxy_internal_response");
                let seconds: u64 = reply.header("retry-after").parse().unwrap();
                assert!((1..60).contains(&seconds), "{reply:?}");
                refused += 1;
            }
        }
    }
    println!("{served} served, {refused} refused, {late} late");
    assert_eq!(served + refused + late, 2000);
    let counters = mock.counters();
    assert_eq!(counters.status(429), 0, "Alexa never said 429");
    assert!(
        counters.requests() <= served + late,
        "no call was made for nothing"
    );
    // How much of the quota is used, and how fast a refusal is, is measured on
    // paused time in `limits` and on real time in `benches/quota.rs`.
    assert!(served >= 100, "{served} served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_nobody_published_is_learned_and_shown() {
    let behaviour = MockBehaviour {
        skill_quota: Some("5/1s".parse().unwrap()),
        ..MockBehaviour::default()
    };
    let config = MockConfig {
        behaviour,
        ..MockConfig::default()
    };
    let mock = Mock::start(config).await.unwrap();
    let config = format!(
        "[deadline]\ndefault = '8s'\n{}",
        upstreams(|region| mock.address(region))
    );
    let gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    let mut burst = JoinSet::new();
    for _ in 0..12 {
        let (client, token) = (client.clone(), token(Region::Eu));
        burst.spawn(async move { client.get(NAME).token(&token).send().await });
    }
    for reply in burst.join_all().await {
        reply.expect_status(200);
    }
    assert!(mock.counters().status(429) > 0, "Alexa has said 429");
    let status = gateway.admin().get("/-/status").send().await.json();
    let lane = &status["regions"]["eu"]["limits"]["profile"];
    assert_eq!(lane["learned_skills"], 1);
    let learned = &lane["learned"][0];
    assert_eq!(learned["skill"], EXAMPLE_SKILL);
    let limit = learned["limit_per_second"].as_f64().unwrap();
    assert!((1.0..=12.0).contains(&limit), "{learned}");
    assert_eq!(learned["throttled"], mock.counters().status(429));
    let metrics = gateway.admin().get("/metrics").send().await;
    let line = r#"alexa_gateway_learned_skills{region="eu",family="profile"} 1"#;
    assert!(metrics.text().contains(line), "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_and_joined_flights_cost_nothing() {
    let mock = strict_mock().await;
    let config = format!(
        "[limits.profile]\nskill = {{ requests = 1, per = '1h' }}\n{}",
        upstreams(|region| mock.address(region))
    );
    let gateway = TestGateway::start(&config).await;
    let (client, token) = (gateway.client(), token(Region::Eu));
    let mut storm = JoinSet::new();
    for _ in 0..100 {
        let (client, token) = (client.clone(), token.clone());
        storm.spawn(async move { client.get(NAME).token(&token).send().await });
    }
    assert!(
        storm
            .join_all()
            .await
            .iter()
            .all(|reply| reply.status == 200)
    );
    client.get(NAME).token(&token).send().await.expect_hit();
    let other = crate::support::token(Region::Eu);
    let refused = client.get(NAME).token(&other).send().await;
    let refused = refused.expect_own_error(429, "proxy_internal_response");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((3590..=3600).contains(&seconds), "{seconds}");
    assert_eq!(mock.counters().requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progressive_response_never_waits_behind_profile_calls() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let config = format!(
        "[deadline]\ndefault = '8s'\n[limits.profile]\nregion = {{ requests = 1, per = '4s' }}\n{}",
        alexa.config()
    );
    let gateway = TestGateway::start(&config).await;
    let client = gateway.client();
    client
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await
        .expect_status(200);
    let waiting = {
        let client = client.clone();
        tokio::spawn(async move { client.get(NAME).token(&token(Region::Na)).send().await })
    };
    gateway.waiting(1).await;
    let directive = client
        .ask(http::Method::POST, "/v1/directives")
        .token(&token(Region::Na));
    directive.body("{}").send().await.expect_status(200);
    assert!(!waiting.is_finished());
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_in_a_hurry_is_told_at_once_that_the_queue_is_too_long() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let quota = "[limits.profile]\nregion = { requests = 1, per = '2s' }\n";
    let gateway = TestGateway::start(&format!("{quota}{}", alexa.config())).await;
    let client = gateway.client();
    client
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await
        .expect_status(200);
    let hurried = client
        .get(NAME)
        .token(&token(Region::Na))
        .header("alexa-gateway-timeout-ms", "500");
    hurried
        .send()
        .await
        .expect_own_error(429, "proxy_internal_response");
    assert_eq!(gateway.gateway().flights(), (0, 0));
    let patient = client.get(NAME).token(&token(Region::Na)).send().await;
    patient.expect_status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pass_through_calls_have_a_quota_of_their_own() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let quota = "[limits.passthrough]\nskill = { requests = 1, per = '1h' }\n";
    let gateway = TestGateway::start(&format!("{quota}{}", alexa.config())).await;
    let client = gateway.client();
    client
        .get("/v1/alerts/reminders")
        .token(&token(Region::Na))
        .send()
        .await
        .expect_status(200);
    let refused = client
        .get("/v1/alerts/reminders")
        .token(&token(Region::Na))
        .send()
        .await;
    refused.expect_own_error(429, "proxy_internal_response");
    client
        .get(NAME)
        .token(&token(Region::Na))
        .send()
        .await
        .expect_status(200);
    eventually("two calls were made", || alexa.count() == 2).await;
}
