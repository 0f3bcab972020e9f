//! A scriptable mock of Alexa in three regions, on loopback, for tests that must not
//! call Amazon.
//!
//! It checks every request in Alexa's order (token, region, quota, then the scenario
//! of the token) and refuses with Alexa's bodies. It can be slow, throttle, break
//! connections or send wrong responses. HTTP/1.1 and HTTP/2 without TLS. A running
//! mock is controlled by its methods or below `/-/`:
//!
//! | call | meaning |
//! |---|---|
//! | `GET /-/counters` | the counters since the start or the last reset |
//! | `POST /-/reset` | set the counters to zero |
//! | `GET /-/behaviour` | the whole behaviour |
//! | `PUT /-/behaviour` | change the fields that the body names |
//! | `POST /-/script` | fates of this region's next requests: `["500", "reset", "ok"]` |
//!
//! It leaves out TLS, signatures and storage: what a request writes is not kept.

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

/// How long [`Mock::shutdown`] waits for responses in progress. A stalled response
/// never ends, so there is a limit.
const GRACE: Duration = Duration::from_secs(1);

/// Where a mock listens, and how it behaves at first.
#[derive(Clone, Debug)]
pub struct MockConfig {
    /// The address of North America; port 0 takes a free port.
    pub na: SocketAddr,
    /// The address of Europe and India.
    pub eu: SocketAddr,
    /// The address of the Far East.
    pub fe: SocketAddr,
    /// The initial behaviour.
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
/// [`Mock::shutdown`] finishes responses first.
#[derive(Debug)]
pub struct Mock {
    addresses: [(Region, SocketAddr); 3],
    state: Arc<MockState>,
    closing: watch::Sender<bool>,
    /// One task per region, which owns the tasks of its connections.
    listeners: JoinSet<()>,
}

impl Mock {
    /// Binds the three addresses and serves from then on.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or is not a loopback address: the mock accepts
    /// anybody and must not be reachable from a network.
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

    /// Returns the address of a region.
    #[must_use]
    pub fn address(&self, region: Region) -> SocketAddr {
        let [(_, na), (_, eu), (_, fe)] = self.addresses;
        match region {
            Region::Na => na,
            Region::Eu => eu,
            Region::Fe => fe,
        }
    }

    /// Returns the counters since the start or the last reset.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.state.lock().counters.clone()
    }

    /// Sets the counters to zero. The windows of quotas stay as they are.
    pub fn reset_counters(&self) {
        self.state.lock().counters = Counters::default();
    }

    /// Returns the current behaviour.
    #[must_use]
    pub fn behaviour(&self) -> MockBehaviour {
        self.state.lock().behaviour.clone()
    }

    /// Replaces the behaviour for requests that arrive from now on.
    pub fn reconfigure(&self, behaviour: MockBehaviour) {
        self.state.lock().behave(behaviour);
    }

    /// Appends to the script of a region's next requests. A scripted request ignores
    /// the fault rates.
    pub fn script(&self, region: Region, steps: impl IntoIterator<Item = ScriptStep>) {
        self.state.lock().script(region, steps);
    }

    /// Refuses new connections, waits up to a second for responses in progress, and
    /// closes the remaining connections.
    ///
    /// # Panics
    ///
    /// Panics if a connection's task has panicked.
    pub async fn shutdown(mut self) {
        self.closing.send_replace(true);
        let all = async {
            while let Some(ended) = self.listeners.join_next().await {
                listener::resume_panic(ended);
            }
        };
        // Past the grace, dropping the tasks closes what they own.
        let _ = timeout(GRACE, all).await;
    }
}
