//! A scriptable Alexa in three regions, on loopback: for the tests of skills,
//! of the gateway, and of anything else that must not call Amazon.
//!
//! It judges every request as Alexa does (token, region, quota, then what the
//! token asks for), refuses in Alexa's words, and can be told to be slow, to
//! throttle, to break connections or to lie. HTTP/1.1 and HTTP/2 without TLS.
//! A running mock is controlled by its methods or below `/-/`:
//!
//! | call | meaning |
//! |---|---|
//! | `GET /-/counters` | everything counted since the start or the last reset |
//! | `POST /-/reset` | count from zero |
//! | `GET /-/behaviour` | the behaviour, all of it |
//! | `PUT /-/behaviour` | change the fields that the body names |
//! | `POST /-/script` | what happens to this region's next requests: `["500", "reset", "ok"]` |
//!
//! It leaves out TLS, signatures and state: nothing that is written is kept.

mod behaviour;
mod body;
mod control;
mod counters;
mod fault;
mod listener;
mod operation;
mod person;
mod response;
mod scenario;
mod service;
mod state;
mod stream;
#[cfg(test)]
mod tests;
pub mod token;
mod windows;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::behaviour::{MockBehaviour, NameShape, RetryAfter};
pub use self::counters::{Counters, RegionCounters, SkillCounters};
pub use self::fault::{BadRates, Fault, Faults, ScriptStep};
pub use self::person::Person;
pub use self::scenario::TokenScenario;
use self::state::MockState;
pub use self::token::TokenSpec;
use crate::region::Region;

/// How long [`Mock::shutdown`] waits for answers that are under way. A stalled
/// answer never ends, so there must be a limit; people notice one second.
const GRACE: Duration = Duration::from_secs(1);

/// Where a mock listens, and how it behaves at first.
#[derive(Clone, Debug)]
pub struct MockConfig {
    /// The address of North America; port 0 for any free one.
    pub na: SocketAddr,
    /// The address of Europe and India.
    pub eu: SocketAddr,
    /// The address of the Far East.
    pub fe: SocketAddr,
    /// The behaviour until it is changed.
    pub behaviour: MockBehaviour,
}

impl Default for MockConfig {
    /// Three free ports on 127.0.0.1 and no faults.
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            na: free,
            eu: free,
            fe: free,
            behaviour: MockBehaviour::default(),
        }
    }
}

/// A running mock. Dropping it ends its listeners and connections at once;
/// [`Mock::shutdown`] lets answers finish first.
#[derive(Debug)]
pub struct Mock {
    addresses: [(Region, SocketAddr); 3],
    state: Arc<MockState>,
    closing: watch::Sender<bool>,
    /// One task a region, each of which owns the tasks of its connections.
    listeners: JoinSet<()>,
}

impl Mock {
    /// Binds the three addresses and serves from then on.
    ///
    /// # Errors
    ///
    /// Fails when an address is not a loopback one (the mock answers anybody
    /// and has no business on a network) or cannot be bound.
    pub async fn start(config: MockConfig) -> io::Result<Self> {
        let state = Arc::new(MockState::new(config.behaviour));
        let (closing, closed) = watch::channel(false);
        let mut listeners = JoinSet::new();
        let mut addresses = [
            (Region::Na, config.na),
            (Region::Eu, config.eu),
            (Region::Fe, config.fe),
        ];
        for (region, address) in &mut addresses {
            let listener = listener::bind(*address).await?;
            *address = listener.local_addr()?;
            listeners.spawn(listener::listen(
                listener,
                *region,
                Arc::clone(&state),
                closed.clone(),
            ));
        }
        Ok(Self {
            addresses,
            state,
            closing,
            listeners,
        })
    }

    /// Returns where a region listens.
    #[must_use]
    pub fn address(&self, region: Region) -> SocketAddr {
        let [(_, na), (_, eu), (_, fe)] = self.addresses;
        match region {
            Region::Na => na,
            Region::Eu => eu,
            Region::Fe => fe,
        }
    }

    /// Returns what has been counted since the start or the last reset.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.state.lock().counters.clone()
    }

    /// Counts from zero. Quotas remember what they have accepted.
    pub fn reset_counters(&self) {
        self.state.lock().counters = Counters::default();
    }

    /// Returns the current behaviour, to be changed and handed back.
    #[must_use]
    pub fn behaviour(&self) -> MockBehaviour {
        self.state.lock().behaviour.clone()
    }

    /// Replaces the behaviour for all requests that have not arrived yet.
    pub fn reconfigure(&self, behaviour: MockBehaviour) {
        self.state.lock().behave(behaviour);
    }

    /// Says what happens to the next requests of a region, after those that
    /// have been scripted already. They go before the fault rates.
    pub fn script(&self, region: Region, outcomes: impl IntoIterator<Item = ScriptStep>) {
        self.state.lock().script(region, outcomes);
    }

    /// Refuses new connections, lets answers under way finish for a second,
    /// and closes what is left.
    ///
    /// # Panics
    ///
    /// Panics when serving a connection has panicked.
    pub async fn shutdown(mut self) {
        self.closing.send_replace(true);
        let all = async {
            while let Some(ended) = self.listeners.join_next().await {
                listener::surface(ended);
            }
        };
        // Past the grace, dropping the tasks closes what they own.
        let _ = timeout(GRACE, all).await;
    }
}
