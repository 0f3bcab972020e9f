//! One file per scenario; each starts what it needs and returns its figures.

mod entries;
mod expiry;
mod hits;
mod idle;
mod latency;
mod log;
mod misses;
mod new_connections;
mod start;
mod storm;
mod warm;
mod wrk;

use crate::bench::{Bench, ScenarioResult};

/// What can be measured, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Responses from the cache.
    Hits,
    /// Calls that go to an origin over plain HTTP.
    Misses,
    /// Calls that go to an origin over TLS.
    TlsMisses,
    /// A thousand callers of one key that is not stored.
    Storm,
    /// A new connection for each call, with a distant TLS origin.
    NewConnections,
    /// A thousand to a million entries.
    Entries,
    /// A million entries that expire together.
    Expiry,
    /// Ten thousand idle connections.
    Idle,
    /// The access log, on and off.
    Log,
    /// Latency at a share of the peak throughput.
    Latency,
    /// From the start of the process to the first response.
    Start,
    /// The load itself, checked by wrk.
    Wrk,
}

impl Scenario {
    /// Runs all rounds.
    ///
    /// # Errors
    /// A peer does not start or sends an unexpected response.
    pub(crate) async fn run(self, bench: &Bench) -> anyhow::Result<ScenarioResult> {
        match self {
            Self::Hits => hits::run(bench).await,
            Self::Misses => misses::plain(bench).await,
            Self::TlsMisses => misses::tls(bench).await,
            Self::Storm => storm::run(bench).await,
            Self::NewConnections => new_connections::run(bench).await,
            Self::Entries => entries::run(bench).await,
            Self::Expiry => expiry::run(bench).await,
            Self::Idle => idle::run(bench).await,
            Self::Log => log::run(bench).await,
            Self::Latency => latency::run(bench).await,
            Self::Start => start::run(bench).await,
            Self::Wrk => wrk::run(bench).await,
        }
    }
}
