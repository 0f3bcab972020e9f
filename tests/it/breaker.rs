//! When a region is down: what its callers see, and that nobody else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alexa_gateway::region::Region;
use http::Method;

use crate::support::alexa::{FakeAlexa, json};
use crate::support::client::{Client, Reply};
use crate::support::command::{Command, TempDir};
use crate::support::gateway::{TestGateway, load};
use crate::support::{NAME, token, within};

/// Open after three attempts, and for long.
const TOUCHY: &str = "[breaker]\nconsecutive_failures = 3\nopen = '1h'\nmax_open = '1h'\n[retry]\nbase_backoff = '1ms'\n";

/// A progressive response is one of the calls that pass through.
const DIRECTIVES: &str = "/v1/directives";

/// An Alexa whose profiles in Europe are down until `down` is false.
async fn alexa(down: &Arc<AtomicBool>) -> FakeAlexa {
    let down = Arc::clone(down);
    FakeAlexa::start(move |seen| {
        let fails =
            seen.region == Region::Eu && seen.target != DIRECTIVES && down.load(Ordering::Relaxed);
        async move { json(if fails { 503 } else { 200 }, r#"{"name":"Jane"}"#) }
    })
    .await
}

fn down() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

async fn name(gateway: &TestGateway, region: Region) -> Reply {
    let client = gateway.client();
    client.get(NAME).token(&token(region)).send().await
}

/// Calls until the breaker of Europe is open: a 503 is tried again once, and the
/// second call's is the third.
async fn open(gateway: &TestGateway) {
    for _ in 0..2 {
        let reply = name(gateway, Region::Eu).await.expect_status(503);
        assert_eq!(reply.header("proxy-status"), "", "Alexa's own");
    }
}

#[tokio::test]
async fn a_region_that_is_down_fails_fast_and_the_others_are_served() {
    let alexa = alexa(&down()).await;
    let gateway = TestGateway::start(&format!("{TOUCHY}{}", alexa.config())).await;
    open(&gateway).await;
    let calls = alexa.count();
    assert_eq!(calls, 3);
    for _ in 0..20 {
        let reply = name(&gateway, Region::Eu).await;
        let reply = reply.expect_own_error(503, "destination_unavailable");
        let seconds: u64 = reply.header("retry-after").parse().unwrap();
        assert!((2800..=3600).contains(&seconds), "{seconds}");
        assert_eq!(reply.cache_status(), "", "it did not go forward");
        let message = reply.json()["message"].to_string();
        assert!(
            message.contains("upstream eu: breaker open (3 failures in a row, the last was 503)"),
            "{message}"
        );
    }
    assert_eq!(alexa.count(), calls, "Alexa is left alone");
    name(&gateway, Region::Na).await.expect_status(200);
    name(&gateway, Region::Fe).await.expect_status(200);
}

#[tokio::test]
async fn a_region_that_is_back_is_found_by_a_probe() {
    let down = down();
    let alexa = alexa(&down).await;
    let config = "[breaker]\nconsecutive_failures = 3\nopen = '20ms'\nmax_open = '50ms'\n";
    let gateway = TestGateway::start(&format!("{config}{}", alexa.config())).await;
    open(&gateway).await;
    down.store(false, Ordering::Relaxed);
    within("the probe", async {
        while name(&gateway, Region::Eu).await.status != 200 {}
    })
    .await;
    for _ in 0..20 {
        name(&gateway, Region::Eu).await.expect_status(200);
    }
}

#[tokio::test]
async fn a_stale_answer_stands_in_while_the_breaker_is_open() {
    let down = Arc::new(AtomicBool::new(false));
    let alexa = alexa(&down).await;
    let cache = "[cache]\nttl = '1ms'\nstale_if_error = '1h'\n";
    let gateway = TestGateway::start(&format!("{cache}{TOUCHY}{}", alexa.config())).await;
    let (client, known) = (gateway.client(), token(Region::Eu));
    let get = || async { client.get(NAME).token(&known).send().await };
    get().await.expect_forwarded("miss");
    down.store(true, Ordering::Relaxed);
    open(&gateway).await;
    let calls = alexa.count();
    within("the answer's freshness", async {
        loop {
            let reply = get().await.expect_status(200).expect_hit();
            assert_eq!(reply.json()["name"], "Jane");
            if reply.cache_status().contains("ttl=-") {
                break;
            }
        }
    })
    .await;
    assert_eq!(alexa.count(), calls);
}

#[tokio::test]
async fn a_progressive_response_never_notices_what_holds_profile_calls() {
    let alexa = alexa(&down()).await;
    let quota = "[limits.profile]\nregion = { requests = 3, per = '1h' }\n";
    let gateway = TestGateway::start(&format!("{quota}{TOUCHY}{}", alexa.config())).await;
    open(&gateway).await;
    let held = name(&gateway, Region::Eu).await;
    held.expect_own_error(503, "destination_unavailable");
    name(&gateway, Region::Na).await.expect_status(200);
    let client = gateway.client();
    for _ in 0..20 {
        let directive = client
            .ask(Method::POST, DIRECTIVES)
            .token(&token(Region::Eu));
        directive.body("{}").send().await.expect_status(200);
    }
    // With the breaker off, what holds profile calls is their quota.
    let off = format!("{quota}[breaker]\nenabled = false\n{}", alexa.config());
    gateway.gateway().reconfigure(load(&off).gateway);
    let held = name(&gateway, Region::Eu).await;
    held.expect_own_error(429, "proxy_internal_response");
    let directive = client
        .ask(Method::POST, DIRECTIVES)
        .token(&token(Region::Eu));
    directive.body("{}").send().await.expect_status(200);
}

#[tokio::test]
async fn operators_see_the_breaker_and_a_reload_can_switch_it_off() {
    let down = down();
    let alexa = alexa(&down).await;
    let gateway = TestGateway::start(&format!("{TOUCHY}{}", alexa.config())).await;
    let admin = gateway.admin();
    let look = || async {
        let status = admin.get("/-/status").send().await.json();
        let metrics = admin.get("/metrics").send().await.text().to_owned();
        (status["regions"].clone(), metrics)
    };
    let shown = |metrics: &str, figures: [u32; 4]| {
        let [eu, na, openings, denied] = figures;
        for line in [
            format!(r#"alexa_gateway_breaker_state{{region="eu"}} {eu}"#),
            format!(r#"alexa_gateway_breaker_state{{region="na"}} {na}"#),
            format!(r#"alexa_gateway_breaker_openings_total{{region="eu"}} {openings}"#),
            format!(r#"alexa_gateway_retries_denied_total{{region="eu"}} {denied}"#),
        ] {
            assert!(metrics.contains(&line), "{line}\n{metrics}");
        }
    };
    let (regions, metrics) = look().await;
    assert_eq!(regions["eu"]["breaker"]["state"], "closed");
    assert!(regions["eu"]["breaker"]["last_reason"].is_null());
    shown(&metrics, [0, 0, 0, 0]);
    open(&gateway).await;
    let (regions, metrics) = look().await;
    let (eu, na) = (&regions["eu"]["breaker"], &regions["na"]["breaker"]);
    assert_eq!(
        (&eu["state"], &na["state"]),
        (&"open".into(), &"closed".into())
    );
    assert_eq!(eu["last_reason"], "3 failures in a row, the last was 503");
    assert!(humantime::parse_rfc3339(eu["since"].as_str().unwrap()).is_ok());
    shown(&metrics, [2, 0, 1, 0]);
    down.store(false, Ordering::Relaxed);
    let off = format!("[breaker]\nenabled = false\n{}", alexa.config());
    gateway.gateway().reconfigure(load(&off).gateway);
    name(&gateway, Region::Eu).await.expect_status(200);
    let (regions, metrics) = look().await;
    assert_eq!(regions["eu"]["breaker"]["state"], "closed");
    shown(&metrics, [0, 0, 1, 0]);
}

#[tokio::test]
async fn retries_beyond_the_budget_are_not_made_and_are_counted() {
    let alexa = alexa(&down()).await;
    let budget = "[breaker]\nenabled = false\n[retry]\nbudget_percent = 0\n";
    let none = format!("{budget}budget_min_per_second = 0\n{}", alexa.config());
    let gateway = TestGateway::start(&none).await;
    name(&gateway, Region::Eu).await.expect_status(503);
    assert_eq!(alexa.count(), 1);
    let metrics = gateway.admin().get("/metrics").send().await;
    let denied = r#"alexa_gateway_retries_denied_total{region="eu"} 1"#;
    assert!(metrics.text().contains(denied), "{metrics:?}");
    let some = format!("{budget}budget_min_per_second = 1\n{}", alexa.config());
    gateway.gateway().reconfigure(load(&some).gateway);
    name(&gateway, Region::Eu).await.expect_status(503);
    assert_eq!(alexa.count(), 3, "a reload applies it");
}

#[tokio::test]
async fn the_log_tells_of_each_change_once() {
    let down = down();
    let alexa = alexa(&down).await;
    let config = "[breaker]\nconsecutive_failures = 3\nopen = '20ms'\nmax_open = '20ms'\n";
    let dir = TempDir::new();
    dir.write("g.toml", &format!("{config}{}", alexa.config()));
    let command = Command::serve(&dir.path("g.toml")).await;
    let client = Client::new(command.address);
    let name = || async { client.get(NAME).token(&token(Region::Eu)).send().await };
    within("probes that fail", async {
        while alexa.count() < 8 {
            name().await.expect_status(503);
        }
    })
    .await;
    down.store(false, Ordering::Relaxed);
    within("a probe that succeeds", async {
        while name().await.status != 200 {}
    })
    .await;
    let closed = |line: &str| line.contains("breaker closed");
    command.log_line("the closing", closed).await;
    let log = command.log();
    let opened: Vec<_> = log
        .lines()
        .filter(|line| line.contains("breaker opened"))
        .collect();
    assert_eq!(opened.len(), 1, "{log}");
    let line: serde_json::Value = serde_json::from_str(opened[0]).unwrap();
    assert_eq!(
        (&line["level"], &line["region"]),
        (&"WARN".into(), &"eu".into())
    );
    assert_eq!(line["reason"], "3 failures in a row, the last was 503");
    assert_eq!(log.lines().filter(|line| closed(line)).count(), 1, "{log}");
    command.stop().await;
}
