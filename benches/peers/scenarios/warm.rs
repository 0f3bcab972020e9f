//! Peers with all responses in their caches.

use std::sync::Arc;

use crate::bench::{Bench, Origin};
use crate::call::{Calls, Tokens};
use crate::load::{self, Until};
use crate::peer::{Peer, Running};
use crate::settings::{Setup, Upstream};

/// 10,000 tokens with three operations each.
pub(super) const ENTRIES: u64 = 30_000;

/// An origin, tokens, and the number of requests that filled the caches.
pub(super) struct Warm {
    tokens: Arc<Tokens>,
    origin: Origin,
    asked: u64,
}

impl Warm {
    pub(super) async fn new(bench: &Bench) -> anyhow::Result<Self> {
        Ok(Self {
            tokens: Tokens::for_entries(ENTRIES),
            origin: bench.origin().await?,
            asked: 0,
        })
    }

    /// Calls for any of the entries.
    pub(super) fn any(&self) -> Arc<Calls> {
        Calls::any(&self.tokens, ENTRIES)
    }

    /// Calls for each entry in turn.
    pub(super) fn each(&self) -> Arc<Calls> {
        Calls::each(&self.tokens, ENTRIES)
    }

    /// Starts those of these peers that are installed, and fills their caches.
    pub(super) async fn start(
        &mut self,
        bench: &Bench,
        peers: &[Peer],
        access_log: bool,
    ) -> anyhow::Result<Vec<(Peer, Running)>> {
        let setup = Setup {
            access_log,
            ..Setup::cache(Upstream::Plain(self.origin.address))
        };
        let mut started = Vec::new();
        for peer in Peer::installed(bench, peers) {
            let running = peer.start(bench, setup).await?;
            load::closed(running.address, &self.each(), Until::Calls(ENTRIES)).await?;
            started.push((peer, running));
        }
        self.asked = self.origin.requests().await?;
        Ok(started)
    }

    /// Checks that all calls since then were hits.
    pub(super) async fn only_hits(&self) -> anyhow::Result<()> {
        self.origin.asked(self.asked, 0).await
    }
}
