//! The program: its commands, exit codes, signals and log.

use alexa_gateway::lab::mock::{Mock, MockConfig, Person, TokenSpec};
use alexa_gateway::region::Region;

use crate::support::alexa::{FakeAlexa, json, upstreams};
use crate::support::client::Client;
use crate::support::command::{Command, TempDir, program};
use crate::support::{GIVEN_NAME, MOBILE_NUMBER, NAME, eventually, token};

#[tokio::test]
async fn check_tells_every_problem_with_key_and_line_and_exits_64() {
    let dir = TempDir::new();
    dir.write(
        "bad.toml",
        "[cache]\nttl = 5\n\n[deadline]\nmax = '1h'\nmin = '1s'\n",
    );
    let file = dir.path("bad.toml");
    let file = file.to_str().unwrap();
    let output = program(&["check", "--config", file])
        .env("ALEXA_GATEWAY__CACHE__MAX_BYTES", "many")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let problems = String::from_utf8(output.stderr).unwrap();
    for start in [
        format!("{file}:2: cache.ttl: "),
        format!("{file}:5: deadline.max: "),
        format!("{file}:6: deadline.min: "),
        "environment ALEXA_GATEWAY__CACHE__MAX_BYTES: cache.max_bytes: ".to_owned(),
        "4 problems".to_owned(),
    ] {
        assert!(
            problems.lines().any(|line| line.starts_with(&start)),
            "{start}\n{problems}"
        );
    }
    let serve = program(&["serve", "--config", file])
        .output()
        .await
        .unwrap();
    assert_eq!(serve.status.code(), Some(64));
    let absent = program(&["check", "--config", "absent.toml"])
        .output()
        .await
        .unwrap();
    assert_eq!(absent.status.code(), Some(64));
    assert!(
        String::from_utf8(absent.stderr)
            .unwrap()
            .starts_with("absent.toml: cannot read the file")
    );
}

#[tokio::test]
async fn check_prints_the_effective_configuration() {
    let dir = TempDir::new();
    dir.write("g.toml", "[cache]\nttl = '7s'\nmax_entries = 7\n");
    let output = program(&[
        "check",
        "--effective",
        "--config",
        dir.path("g.toml").to_str().unwrap(),
    ])
    .env("ALEXA_GATEWAY__CACHE__TTL", "5s")
    .output()
    .await
    .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let effective: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    assert_eq!(effective["cache"]["ttl"].as_str(), Some("5s"));
    assert_eq!(effective["cache"]["max_entries"].as_integer(), Some(7));
    assert_eq!(effective["cache"]["no_content_ttl"].as_str(), Some("1s"));
}

#[tokio::test]
async fn a_port_in_use_is_told_in_words() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program(&["serve"])
        .env("ALEXA_GATEWAY__SERVER__LISTENERS", &address)
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("{address} is in use")), "{told}");
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    let (open, opened) = tokio::sync::watch::channel(false);
    let alexa = FakeAlexa::start(move |_| {
        let mut opened = opened.clone();
        async move {
            opened.wait_for(|&open| open).await.unwrap();
            json(200, "{}")
        }
    })
    .await;
    let dir = TempDir::new();
    dir.write("g.toml", &alexa.config());
    let mut command = Command::serve(&dir.path("g.toml")).await;
    let client = Client::new(command.address);
    let asking =
        tokio::spawn(async move { client.get(NAME).token(&token(Region::Na)).send().await });
    eventually("the call is on its way", || alexa.count() == 1).await;
    command.signal("TERM");
    command
        .log_line("the stop", |line| {
            line.contains("finishing requests in flight")
        })
        .await;
    open.send_replace(true);
    asking.await.unwrap().expect_status(200);
    assert_eq!(command.exit_code().await, Some(0), "{}", command.log());
}

#[tokio::test]
async fn one_line_a_request_with_everything_but_secrets() {
    let mock = Mock::start(MockConfig::default()).await.unwrap();
    let dir = TempDir::new();
    dir.write("g.toml", &upstreams(|region| mock.address(region)));
    // Whatever any library has to say is looked at as well.
    let command = Command::serve_with(
        &dir.path("g.toml"),
        &[("ALEXA_GATEWAY__LOG__LEVEL", "trace")],
    )
    .await;
    let client = Client::new(command.address);
    let token = TokenSpec {
        region: Region::Eu,
        person: Some("Zoë Quirk".into()),
        ..TokenSpec::default()
    }
    .mint();
    let person = Person::of_token(&token);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    for target in [
        NAME,
        GIVEN_NAME,
        MOBILE_NUMBER,
        "/v2/devices/amzn1.ask.device.HUSH/settings/System.timeZone",
    ] {
        let ask = client
            .get(target)
            .token(&token)
            .header("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"));
        let reply = ask.send().await.expect_status(200);
        let id = reply.header("alexa-gateway-request-id").to_owned();
        let line = command
            .log_line("the request's line", |line| line.contains(&id))
            .await;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let template = target.replace("amzn1.ask.device.HUSH", "{deviceId}");
        for (field, value) in [
            ("request_id", id.as_str()),
            ("trace_id", trace),
            ("method", "GET"),
            ("template", &template),
            ("region", "eu"),
            ("family", "profile"),
            ("skill", alexa_gateway::lab::mock::token::EXAMPLE_SKILL),
            ("cache", "miss"),
        ] {
            assert_eq!(line[field], value, "{line}");
        }
        assert_eq!(
            (&line["status"], &line["attempts"]),
            (&200.into(), &1.into())
        );
        for field in ["queue_wait_ms", "upstream_ms", "total_ms"] {
            assert!(line[field].is_number(), "{field}: {line}");
        }
    }
    let reminder = client
        .get("/v1/alerts/reminders/HUSH")
        .token(&token)
        .send()
        .await;
    let id = reminder.header("alexa-gateway-request-id").to_owned();
    command
        .log_line("the reminder's line", |line| {
            line.contains(&id) && line.contains("reminders/{}")
        })
        .await;
    let log = command.log();
    let [_, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("{token}")
    };
    for secret in [
        &token,
        payload,
        signature,
        &payload[..40],
        "Quirk",
        "Zoë",
        &person.phone_number,
        "HUSH",
    ] {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
    assert!(
        log.contains("alexa_gateway::request"),
        "there was a log to look at"
    );
    command.stop().await;
}

#[tokio::test]
async fn a_trace_goes_on_at_alexa() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let gateway = crate::support::gateway::TestGateway::start(&alexa.config()).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for target in [NAME, "/v1/alerts/reminders"] {
        let ask = gateway.client();
        let ask = ask
            .get(target)
            .token("t")
            .header("traceparent", parent)
            .header("tracestate", "a=b");
        ask.send().await.expect_status(200);
        let seen = alexa.seen().pop().unwrap();
        assert_eq!(seen.headers["traceparent"], parent);
        assert_eq!(seen.headers["tracestate"], "a=b");
    }
}

#[tokio::test]
async fn tokens_are_printed_one_a_line() {
    let output = program(&["token", "--region", "eu", "--count", "2"])
        .output()
        .await
        .unwrap();
    let tokens = String::from_utf8(output.stdout).unwrap();
    assert_eq!(tokens.lines().count(), 2);
    assert!(
        tokens
            .lines()
            .all(|token| (1790..=1910).contains(&token.len())),
        "{tokens}"
    );
}
