//! What is stored, for whom, and what a request may ask of the cache.

use std::sync::atomic::{AtomicUsize, Ordering};

use alexa_gateway::region::Region;
use http::Method;

use crate::support::alexa::{FakeAlexa, empty, full, json};
use crate::support::gateway::TestGateway;
use crate::support::{NAME, eventually, token};

/// An Alexa that numbers its answers.
async fn counting() -> FakeAlexa {
    let calls = AtomicUsize::new(0);
    FakeAlexa::start(move |_| {
        let n = calls.fetch_add(1, Ordering::SeqCst);
        async move { json(200, format!(r#"{{"name":"call {n}"}}"#)) }
    })
    .await
}

#[tokio::test]
async fn the_second_request_of_a_token_is_a_hit_and_tells_its_age() {
    let alexa = counting().await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    let first = client
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_forwarded("miss");
    assert_eq!(
        first.cache_status(),
        "alexa-gateway; fwd=miss; fwd-status=200; stored; ttl=10"
    );
    assert_eq!(first.header("age"), "");
    let second = client.get(NAME).token(&token).send().await.expect_hit();
    assert_eq!(second.body, first.body);
    assert_eq!(second.header("age"), "0");
    assert_eq!(second.header("cache-control"), "no-store");
    assert_eq!(
        second.header("content-length"),
        second.body.len().to_string()
    );
    assert_eq!(alexa.count(), 1);
}

#[tokio::test]
async fn spellings_of_one_resource_share_an_answer_and_accept_does_not() {
    let alexa = counting().await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    client
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_forwarded("miss");
    let encoded = NAME.replace('~', "%7E");
    client.get(&encoded).token(&token).send().await.expect_hit();
    client
        .get(&format!("/na{NAME}"))
        .token(&token)
        .send()
        .await
        .expect_hit();
    for name in ["accept", "accept-language"] {
        client
            .get(NAME)
            .token(&token)
            .header(name, "x/y")
            .send()
            .await
            .expect_forwarded("miss");
    }
    client
        .get(&format!("{NAME}?q"))
        .token(&token)
        .send()
        .await
        .expect_forwarded("miss");
    assert_eq!(alexa.count(), 4);
}

#[tokio::test]
async fn a_request_can_refuse_what_is_stored() {
    let alexa = counting().await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    let ask = async |directives: &str| {
        client
            .get(NAME)
            .token(&token)
            .header("cache-control", directives)
            .send()
            .await
    };
    ask("only-if-cached")
        .await
        .expect_own_error(504, "proxy_internal_response");
    assert_eq!(alexa.count(), 0);
    let unstored = ask("no-store").await.expect_forwarded("miss");
    assert!(!unstored.cache_status().contains("stored"));
    ask("max-age=60").await.expect_forwarded("miss");
    ask("max-age=60").await.expect_hit();
    ask("only-if-cached").await.expect_hit();
    let renewed = ask("no-cache").await.expect_forwarded("request");
    assert_eq!(
        ask("no-store").await.expect_hit().body,
        renewed.body,
        "it was stored anew"
    );
    assert_eq!(alexa.count(), 3);
}

#[tokio::test]
async fn only_values_are_stored() {
    for status in [401, 403, 404, 400, 302] {
        let alexa = FakeAlexa::start(move |_| async move { json(status, "{}") }).await;
        let gateway = TestGateway::start(&alexa.config()).await;
        let (client, token) = (gateway.client(), token(Region::Na));
        for _ in 0..2 {
            let reply = client
                .get(NAME)
                .token(&token)
                .send()
                .await
                .expect_status(status);
            assert_eq!(
                reply.cache_status(),
                format!("alexa-gateway; fwd=miss; fwd-status={status}")
            );
            assert_eq!(reply.header("proxy-status"), "", "it is Alexa's own");
        }
        assert_eq!(alexa.count(), 2);
    }
}

#[tokio::test]
async fn no_content_is_stored_for_a_second() {
    let alexa = FakeAlexa::start(|_| async { empty(204) }).await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    let first = client
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_status(204);
    assert!(first.cache_status().ends_with("stored; ttl=1"), "{first:?}");
    client
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_status(204)
        .expect_hit();
}

#[tokio::test]
async fn a_captive_portal_is_relayed_and_never_kept() {
    let alexa = FakeAlexa::start(|_| async {
        let mut page = http::Response::new(full("<html>log in</html>"));
        page.headers_mut()
            .insert("content-type", "text/html".parse().unwrap());
        page
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    for _ in 0..2 {
        let reply = client
            .get(NAME)
            .token(&token)
            .send()
            .await
            .expect_forwarded("miss");
        assert_eq!(
            (reply.text(), reply.header("content-type")),
            ("<html>log in</html>", "text/html")
        );
    }
}

#[tokio::test]
async fn upstream_decides_on_no_store_unless_the_operator_does() {
    let alexa = FakeAlexa::start(|_| async {
        let mut answer = json(200, "{}");
        answer
            .headers_mut()
            .insert("cache-control", "no-store".parse().unwrap());
        answer
    })
    .await;
    for (config, hit) in [("", false), ("[cache]\nrespect_no_store = false\n", true)] {
        let gateway = TestGateway::start(&format!("{config}{}", alexa.config())).await;
        let (client, token) = (gateway.client(), token(Region::Na));
        client
            .get(NAME)
            .token(&token)
            .send()
            .await
            .expect_forwarded("miss");
        let second = client.get(NAME).token(&token).send().await;
        assert_eq!(second.cache_status().contains("; hit"), hit, "{second:?}");
    }
}

#[tokio::test]
async fn a_template_has_a_ttl_of_its_own() {
    let alexa = counting().await;
    let config = format!(
        "[cache.templates.person_name]\nttl = '0s'\n{}",
        alexa.config()
    );
    let gateway = TestGateway::start(&config).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    for _ in 0..2 {
        let reply = client
            .get(NAME)
            .token(&token)
            .send()
            .await
            .expect_forwarded("miss");
        assert!(!reply.cache_status().contains("stored"));
    }
    let given_name = NAME.replace("name", "givenName");
    client
        .get(&given_name)
        .token(&token)
        .send()
        .await
        .expect_forwarded("miss");
    client
        .get(&given_name)
        .token(&token)
        .send()
        .await
        .expect_hit();
}

#[tokio::test]
async fn what_is_not_a_get_of_a_template_is_not_cached() {
    let alexa = FakeAlexa::start(|_| async { json(200, "{}") }).await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    client.get(NAME).token(&token).send().await;
    for _ in 0..2 {
        client
            .ask(Method::HEAD, NAME)
            .token(&token)
            .send()
            .await
            .expect_forwarded("method");
        client
            .ask(Method::POST, NAME)
            .token(&token)
            .send()
            .await
            .expect_forwarded("method");
        client
            .get("/v1/alerts/reminders")
            .token(&token)
            .send()
            .await
            .expect_forwarded("bypass");
        client.get(NAME).send().await.expect_forwarded("bypass");
        client
            .get(NAME)
            .header("authorization", "Basic eA==")
            .send()
            .await
            .expect_forwarded("bypass");
    }
    assert_eq!(alexa.count(), 11);
}

#[tokio::test]
async fn cookies_are_never_replayed_and_bytes_never_changed() {
    let body = "{ \"name\" : \"山田太郎\" }\n";
    let alexa = FakeAlexa::start(move |_| async move {
        let mut answer = json(200, body);
        answer.headers_mut().insert(
            "content-type",
            "application/json;charset=UTF-8".parse().unwrap(),
        );
        answer
            .headers_mut()
            .append("set-cookie", "a=1".parse().unwrap());
        answer
            .headers_mut()
            .insert("x-amzn-requestid", "r".parse().unwrap());
        answer
    })
    .await;
    let gateway = TestGateway::start(&alexa.config()).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    for _ in 0..2 {
        let reply = client.get(NAME).token(&token).send().await;
        assert_eq!(reply.text(), body);
        assert_eq!(
            reply.header("content-type"),
            "application/json;charset=UTF-8"
        );
        assert_eq!(reply.header("set-cookie"), "");
        assert_eq!(reply.header("x-amzn-requestid"), "r");
    }
    assert_eq!(alexa.count(), 1);
}

#[tokio::test]
async fn a_stale_answer_stands_in_where_the_operator_allows_it() {
    let calls = AtomicUsize::new(0);
    let alexa = FakeAlexa::start(move |_| {
        let n = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut answer = if n == 0 {
                json(200, r#"{"name":"old"}"#)
            } else {
                json(503, "{}")
            };
            // Fresh for no time at all: the next request finds it stale.
            answer
                .headers_mut()
                .insert("cache-control", "max-age=1".parse().unwrap());
            answer.headers_mut().insert("age", "0".parse().unwrap());
            answer
        }
    })
    .await;
    let config = format!(
        "[cache.templates.person_name]\nttl = '1ms'\nstale_if_error = '1h'\n[retry]\nmax_attempts = 1\n{}",
        alexa.config()
    );
    let gateway = TestGateway::start(&config).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    client
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_status(200);
    // Whether the millisecond has passed or not, what comes is the old answer.
    for _ in 0..20 {
        let reply = client
            .get(NAME)
            .token(&token)
            .send()
            .await
            .expect_status(200);
        assert_eq!(reply.json()["name"], "old");
    }
    assert!(alexa.count() > 1, "upstream was asked again");
}

#[tokio::test]
async fn a_stale_answer_is_given_at_once_and_renewed_meanwhile() {
    let alexa = counting().await;
    let config = format!(
        "[cache.templates.person_name]\nttl = '1ms'\nstale_while_revalidate = '1h'\n{}",
        alexa.config()
    );
    let gateway = TestGateway::start(&config).await;
    let (client, token) = (gateway.client(), token(Region::Na));
    client
        .get(NAME)
        .token(&token)
        .send()
        .await
        .expect_forwarded("miss");
    // Sooner or later the millisecond is over, and never does anybody wait.
    while alexa.count() == 1 {
        client.get(NAME).token(&token).send().await.expect_hit();
    }
    eventually("the renewed answer is there", || {
        gateway.gateway().flights() == (0, 0)
    })
    .await;
    let renewed = client.get(NAME).token(&token).send().await.expect_hit();
    assert_ne!(renewed.json()["name"], "call 0");
}
