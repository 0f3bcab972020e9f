//! The gateway that users run, on free ports; dropping it closes it.

use alexa_gateway::config::Config;
use alexa_gateway::config::layers::Sources;
use alexa_gateway::gateway::Gateway;
use alexa_gateway::server::Server;

use super::client::Client;
use super::{PATIENCE, eventually};

pub(crate) struct TestGateway {
    pub(crate) server: Server,
}

impl TestGateway {
    /// Starts a gateway with the given file on top of the defaults.
    pub(crate) async fn start(config: &str) -> Self {
        let config = load(config);
        Self {
            server: Server::start(config.server, config.admin, config.gateway)
                .await
                .unwrap(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.server.addresses()[0])
    }

    pub(crate) fn admin(&self) -> Client {
        Client::new(self.server.admin_address().unwrap())
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.server.gateway()
    }

    /// Waits until so many requests wait for flights.
    pub(crate) async fn waiting(&self, requests: usize) {
        let what = format!("{requests} requests wait for flights");
        eventually(&what, || self.gateway().flights().1 == requests).await;
    }

    pub(crate) async fn stop(self) {
        tokio::time::timeout(PATIENCE, self.server.stop())
            .await
            .expect("the gateway stops");
    }
}

/// A valid configuration with free ports and without a log.
pub(crate) fn load(config: &str) -> Config {
    let environment = [
        ("ALEXA_GATEWAY__ADMIN__ADDRESS", "127.0.0.1:0"),
        ("ALEXA_GATEWAY__LOG__REQUESTS", "false"),
    ];
    let mut environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    if !config.contains("listeners") {
        environment.push((
            "ALEXA_GATEWAY__SERVER__LISTENERS".into(),
            "127.0.0.1:0".into(),
        ));
    }
    let sources = Sources {
        file: Some(("test.toml", config)),
        environment: &environment,
    };
    Config::load(&sources).unwrap_or_else(|problems| panic!("{problems:#?}\n{config}"))
}
