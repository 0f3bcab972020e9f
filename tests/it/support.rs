//! What every test stands on: a gateway, a fake Alexa and a client.

pub(crate) mod alexa;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod gateway;
pub(crate) mod raw;
pub(crate) mod source;

use std::time::Duration;

use alexa_gateway::lab::mock::TokenSpec;
use alexa_gateway::region::Region;

/// Longer than anything that works takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const NAME: &str = "/v2/persons/~current/profile/name";
pub(crate) const GIVEN_NAME: &str = "/v2/persons/~current/profile/givenName";
pub(crate) const MOBILE_NUMBER: &str = "/v2/persons/~current/profile/mobileNumber";

/// A token of the real shape for one region, different at each call.
pub(crate) fn token(region: Region) -> String {
    TokenSpec {
        region,
        ..TokenSpec::default()
    }
    .mint()
}

/// Waits until `condition` holds; fails if it never does.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let polling = async {
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while !condition() {
            tick.tick().await;
        }
    };
    if tokio::time::timeout(PATIENCE, polling).await.is_err() {
        panic!("never happened: {what}");
    }
}

/// Fails if `future` does not end.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("never ended: {what}"),
    }
}
