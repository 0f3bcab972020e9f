//! Stored responses: lookup, storing, and their bounds.
//!
//! moka holds the responses and evicts the least recently used ones. It does not decide
//! freshness: its clock is private. [`policy`] does, on tokio's clock.
//!
//! A stored response is personal data, so it does not stay in memory until somebody asks
//! for it: [`Cache::sweep`] removes expired responses, also if a million expire at once.

pub mod entry;
mod expiry;
pub mod key;
pub mod policy;
pub mod response;
mod slot;
pub mod status;
mod sweep;
#[cfg(test)]
mod testing;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use foldhash::quality::RandomState;
use moka::policy::EvictionPolicy;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep};

use entry::Entry;
use expiry::ExpiryWheel;
use key::CacheKey;
use policy::{Decision, Judged, RequestDirectives};
use response::HeaderTemplates;
use slot::{SlotKey, Table};
use sweep::Sweep;

/// How much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes, bookkeeping included.
    pub max_bytes: u64,
    /// Responses.
    pub max_entries: u64,
}

/// What the cache decides for one request.
pub type Lookup = Decision<Arc<Entry>>;

/// The time between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

/// The stored responses of one process. Only [`Cache::sweep`] waits.
pub struct Cache {
    entries: Table,
    expiry: Arc<ExpiryWheel>,
    templates: HeaderTemplates,
}

impl Cache {
    /// An empty cache of the given capacity.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        // With a least weight, the bound on bytes is a bound on entries too.
        let min_weight = capacity.max_bytes / capacity.max_entries.max(1);
        let min_weight = u32::try_from(min_weight).unwrap_or(u32::MAX);
        let entries = moka::sync::Cache::builder()
            .max_capacity(capacity.max_bytes)
            .weigher(move |_, entry: &Arc<Entry>| entry.weight().max(min_weight))
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(RandomState::default());
        Self {
            entries,
            expiry: Arc::new(ExpiryWheel::new()),
            templates: HeaderTemplates::default(),
        }
    }

    /// The header templates that stored responses share.
    #[must_use]
    pub fn templates(&self) -> &HeaderTemplates {
        &self.templates
    }

    /// Decides what a request for `key` gets. `now` may be a moment ago.
    #[must_use]
    pub fn lookup(&self, key: &CacheKey, request: &RequestDirectives, now: Instant) -> Lookup {
        let stored = self.valid(key).map(|entry| Judged {
            reuse: policy::judge(&entry.lifetime(), entry.resident(now), request),
            entry,
        });
        policy::decide(stored, request)
    }

    /// The response that is stored for `key`, if it is fresh.
    #[must_use]
    pub fn fresh(&self, key: &CacheKey, now: Instant) -> Option<Arc<Entry>> {
        match self.lookup(key, &RequestDirectives::default(), now) {
            Lookup::Hit {
                entry,
                revalidate: false,
            } => Some(entry),
            _ => None,
        }
    }

    /// What is stored for `key`, if its token is still valid.
    fn valid(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key)?;
        if entry.has_expired(unix_seconds()) {
            self.entries.invalidate(key);
            return None;
        }
        Some(entry)
    }

    /// Stores a response. It replaces the one before.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>) {
        let retained = entry.lifetime().retained();
        let expires = self.expiry.tick_after(entry.stored_at(), retained);
        let slot = SlotKey::new(key, expires);
        self.entries.insert(slot, entry);
        self.expiry.file(slot.mark());
    }

    /// Sweeps a few times a second, until dropped.
    pub async fn sweep_periodically(&self) {
        loop {
            sleep(SWEEP_INTERVAL).await;
            self.sweep().await;
        }
    }

    /// Removes the responses that have expired, on a thread of its own. Dropping the future
    /// does not stop it.
    pub async fn sweep(&self) {
        let now = self.expiry.tick(Instant::now());
        if !self.expiry.is_due(now) {
            // Evicted responses leave memory when moka does what it has put off.
            self.entries.run_pending_tasks();
            return;
        }
        let sweep = Sweep {
            entries: self.entries.clone(),
            expiry: Arc::clone(&self.expiry),
            now,
        };
        // The next sweep goes on with what is left if this one panics.
        let _: Result<(), JoinError> = spawn_blocking(move || sweep.run()).await;
    }

    /// The number of stored responses.
    #[must_use]
    pub fn len(&self) -> u64 {
        // moka counts when it does what it has put off.
        self.entries.run_pending_tasks();
        self.entries.entry_count()
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of all stored responses, in bytes as the capacity counts them.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.entries.run_pending_tasks();
        self.entries.weighted_size()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("len", &self.entries.entry_count())
            .finish_non_exhaustive()
    }
}

/// Seconds since the Unix epoch by the wall clock, the clock of token expiry.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
