//! Every answer belongs to the token that asked for it.

use std::sync::Arc;

use alexa_gateway::lab::mock::{Mock, MockBehaviour, MockConfig, Person};
use alexa_gateway::region::Region;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::alexa::upstreams;
use crate::support::gateway::TestGateway;
use crate::support::{GIVEN_NAME, MOBILE_NUMBER, NAME, token};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_mixed_requests_never_share_an_answer_between_tokens() {
    let behaviour = MockBehaviour {
        latency: std::time::Duration::from_millis(5),
        jitter: std::time::Duration::from_millis(5),
        ..MockBehaviour::default()
    };
    let mock = Mock::start(MockConfig {
        behaviour,
        ..MockConfig::default()
    })
    .await
    .unwrap();
    let gateway = TestGateway::start(&upstreams(|region| mock.address(region))).await;
    let client = gateway.client();
    let tokens: Vec<_> = (0..500)
        .map(|n| Region::ALL[n % 3])
        .map(|region| (region, token(region)))
        .collect();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let at_once = Arc::new(Semaphore::new(200));
    let mut requests = JoinSet::new();
    for _ in 0..10_000 {
        let (region, token) = tokens[dice.usize(..tokens.len())].clone();
        let operation = dice.usize(..3);
        let (client, at_once) = (client.clone(), Arc::clone(&at_once));
        requests.spawn(async move {
            let _turn = at_once.acquire().await.unwrap();
            let target = [NAME, GIVEN_NAME, MOBILE_NUMBER][operation];
            let reply = client
                .get(target)
                .token(&token)
                .send()
                .await
                .expect_status(200);
            let (person, json) = (Person::of_token(&token), reply.json());
            let (seen, own) = match operation {
                0 => (&json["name"], person.name),
                1 => (&json["name"], person.given_name),
                _ => (&json["phoneNumber"], person.phone_number),
            };
            assert_eq!(seen, &own, "{region}: {reply:?}");
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended.unwrap();
    }
    let calls = mock.counters().requests();
    assert!(calls < 3000, "{calls} calls: equal requests were shared");
    for region in Region::ALL {
        assert!(mock.counters().region(region).requests > 0, "{region}");
        assert_eq!(
            mock.counters().region(region).statuses.get(&401),
            None,
            "{region}"
        );
    }
}
