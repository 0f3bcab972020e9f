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

use crate::bench::{Bench, Outcome};

/// What can be measured, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// Answers from the cache.
    Hits,
    /// Calls that go to an origin over plain HTTP.
    Misses,
    /// Calls that go to an origin over TLS.
    TlsMisses,
    /// A thousand callers of one key that nobody knows.
    Storm,
    /// Callers that open a connection for each call, far from an origin with TLS.
    NewConnections,
    /// A thousand to a million entries.
    Entries,
    /// A million entries that expire together.
    Expiry,
    /// Ten thousand connections that ask for nothing.
    Idle,
    /// The access log, on and off.
    Log,
    /// Latency at a part of what a peer can do.
    Latency,
    /// From nothing to the first answer.
    Start,
    /// The load itself, checked by wrk.
    Wrk,
}

impl Scenario {
    /// Runs all rounds.
    ///
    /// # Errors
    /// A peer does not start or does not answer as it should.
    pub(crate) async fn run(self, bench: &Bench) -> anyhow::Result<Outcome> {
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
