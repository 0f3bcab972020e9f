//! A new configuration under load: nothing is lost, and Alexa sees no burst.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alexa_gateway::lab::mock::{Mock, MockBehaviour, MockConfig};
use alexa_gateway::region::Region;
use tokio::task::JoinSet;

use crate::support::alexa::{FakeAlexa, json, upstreams};
use crate::support::client::Client;
use crate::support::command::{Command, TempDir};
use crate::support::gateway::{TestGateway, load};
use crate::support::{NAME, eventually, token, within};

#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_lose_nothing_and_cause_no_429() {
    let behaviour = MockBehaviour {
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(20),
        region_quota: Some("40/500ms".parse().unwrap()),
        ..MockBehaviour::default()
    };
    let mock = Mock::start(MockConfig {
        behaviour,
        ..MockConfig::default()
    })
    .await
    .unwrap();
    let upstreams = upstreams(|region| mock.address(region));
    let with_quota = |requests: u32| {
        format!(
            "[limits.profile]\nregion = {{ requests = {requests}, per = '500ms' }}\n{upstreams}"
        )
    };
    let dir = TempDir::new();
    dir.write("g.toml", &with_quota(40));
    let command = Command::serve(&dir.path("g.toml")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for _ in 0..60 {
        let (client, stop) = (Client::new(command.address), Arc::clone(&stop));
        load.spawn(async move {
            let mut replies = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                replies.push(client.get(NAME).token(&token(Region::Na)).send().await);
            }
            replies
        });
    }
    // Each step waits for what the reload says of itself.
    for (n, (text, applied)) in [
        (with_quota(20), true),
        ("[limits\n".to_owned(), false),
        (with_quota(0), false),
        (with_quota(40), true),
        (format!("[cache]\nttl = '1s'\n{}", with_quota(30)), true),
    ]
    .into_iter()
    .enumerate()
    {
        let before = mock.counters().requests();
        eventually("calls are made", || {
            mock.counters().requests() > before + 40
        })
        .await;
        dir.replace("g.toml", &text);
        command
            .log_line(&format!("reload {n}"), |line| {
                line.contains(if applied {
                    "configuration reloaded"
                } else {
                    "configuration not reloaded"
                })
            })
            .await;
        let status = command.admin().get("/-/status").send().await.json();
        assert_eq!(status["last_reload"]["applied"], applied, "{status}");
        assert_eq!(
            status["last_reload"]["problems"]
                .as_array()
                .unwrap()
                .is_empty(),
            applied
        );
    }
    stop.store(true, Ordering::Relaxed);
    let replies: Vec<_> = within("the load ends", load.join_all())
        .await
        .into_iter()
        .flatten()
        .collect();
    let (served, refused) = replies.iter().fold((0, 0), |(served, refused), reply| {
        match reply.status.as_u16() {
            200 => (served + 1, refused),
            429 => {
                reply
                    .clone()
                    .expect_own_error(429, "proxy_internal_response");
                (served, refused + 1)
            }
            _ => panic!("{reply:?}"),
        }
    });
    println!("{served} served, {refused} refused by our own quota");
    assert!(served > 40, "{served}");
    assert_eq!(mock.counters().status(429), 0, "Alexa never said 429");
    command.stop().await;
}

#[tokio::test]
async fn a_reload_keeps_what_is_stored() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    client
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_forwarded("miss");
    gateway
        .gateway()
        .reconfigure(load(&format!("[cache]\nttl = '5s'\n{}", alexa.config())).gateway);
    client.get(NAME).token(&token).send().await.expect_hit();
}

#[tokio::test]
async fn sighup_reads_the_file_again_and_tells_what_takes_a_restart() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let dir = TempDir::new();
    dir.write("g.toml", &alexa.config());
    let mut command = Command::serve(&dir.path("g.toml")).await;
    command.signal("HUP");
    command
        .log_line("the reload", |line| line.contains("configuration reloaded"))
        .await;
    dir.replace(
        "g.toml",
        &format!("[cache]\nmax_entries = 7\n{}", alexa.config()),
    );
    let line = command
        .log_line("the restart hint", |line| {
            line.contains("needs_restart") && line.contains("cache.max_entries")
        })
        .await;
    assert!(line.contains("configuration reloaded"), "{line}");
    command.stop().await;
}
