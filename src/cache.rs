//! Stored answers: lookup, store, and their bounds.
//!
//! A table holds and evicts; [`policy`] decides what is fresh. An answer that is of no
//! more use leaves memory at a [`Cache::sweep`], for it is personal data.

pub mod entry;
pub mod key;
pub mod policy;
pub mod response;
pub mod status;
mod table;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use entry::Entry;
use key::CacheKey;
use policy::{Decision, Judged, RequestDirectives};
use response::HeaderTemplates;
use table::Table;

/// How much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes, bookkeeping included.
    pub max_bytes: u64,
    /// Answers.
    pub max_entries: u64,
}

/// The answers of one process. Cheap to share behind an `Arc`; all methods take
/// `&self`, and none but [`Cache::sweep`] waits.
pub struct Cache {
    entries: Table,
    /// What the heads of stored answers have in common.
    heads: HeaderTemplates,
}

/// What the cache decides for one request.
pub type Lookup = Decision<Arc<Entry>>;

impl Cache {
    /// An empty cache of the given capacity.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self {
            entries: Table::new(capacity),
            heads: HeaderTemplates::default(),
        }
    }

    /// What the heads of answers have in common, for making answers that share it.
    #[must_use]
    pub fn heads(&self) -> &HeaderTemplates {
        &self.heads
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
            self.entries.remove(key, &entry);
            return None;
        }
        Some(entry)
    }

    /// Stores an answer in the place of an earlier one.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>) {
        self.entries.insert(key, entry);
    }

    /// Frees what is of no more use, or a part of it where a lot is stored: the next call
    /// goes on where this one rests. To be called once a second. Other tasks run in
    /// between; may be dropped at any time.
    pub async fn sweep(&self) {
        self.entries.sweep().await;
    }

    /// How many answers are stored, with those that no sweep has freed yet.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.entries.len()
    }

    /// Whether nothing is stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much is stored, in bytes as the capacity counts them.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.entries.weight_bytes()
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("len", &self.len())
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
mod tests {
    use std::time::Duration;

    use super::policy::Lifetime;
    use super::*;
    use crate::cache::response::StoredResponse;
    use crate::region::Region;
    use crate::token::{BearerToken, DigestKey};
    use http::uri::PathAndQuery;
    use http::{HeaderMap, StatusCode};

    const SECOND: Duration = Duration::from_secs(1);

    pub(super) fn key(digest_key: &DigestKey, n: usize) -> CacheKey {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {n}").parse().unwrap());
        let digest = BearerToken::take(&mut headers)
            .unwrap()
            .unwrap()
            .digest(digest_key);
        CacheKey::of(
            digest_key,
            Region::Na,
            &PathAndQuery::from_static("/"),
            &headers,
            &digest,
        )
    }

    pub(super) fn answer(body_bytes: usize) -> StoredResponse {
        let body = vec![b'x'; body_bytes];
        StoredResponse::new(
            StatusCode::OK,
            HeaderMap::new(),
            &body,
            &HeaderTemplates::default(),
        )
    }

    fn entry(body_bytes: usize, expires_at: Option<u64>) -> Arc<Entry> {
        let lifetime = Lifetime {
            initial_age: Duration::ZERO,
            fresh: 10 * SECOND,
            while_revalidate: 10 * SECOND,
            if_error: 30 * SECOND,
        };
        Arc::new(Entry::new(answer(body_bytes), lifetime, expires_at))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_fresh_then_a_fallback_then_gone() {
        let cache = Cache::new(Capacity {
            max_bytes: 1 << 20,
            max_entries: 100,
        });
        let digest_key = DigestKey::random().unwrap();
        let key = key(&digest_key, 1);
        cache.store(key, entry(10, None));
        let after = async |span: Duration| {
            tokio::time::advance(span).await;
            match cache.lookup(&key, &RequestDirectives::default(), Instant::now()) {
                Lookup::Hit { .. } => "hit",
                Lookup::Fetch {
                    forward, fallback, ..
                } => match fallback {
                    Some(_) => "fallback",
                    None => forward.label(),
                },
                Lookup::OnlyIfCached => "only if cached",
            }
        };
        assert_eq!(after(Duration::ZERO).await, "hit");
        assert_eq!(after(9 * SECOND).await, "hit");
        assert_eq!(after(SECOND).await, "fallback");
        assert_eq!(after(20 * SECOND).await, "miss");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_of_no_more_use_leaves_memory() {
        let cache = Cache::new(Capacity {
            max_bytes: 1 << 20,
            max_entries: 100,
        });
        let digest_key = DigestKey::random().unwrap();
        cache.store(key(&digest_key, 1), entry(10, None));
        tokio::time::advance(29 * SECOND).await;
        cache.store(key(&digest_key, 2), entry(10, None));
        cache.sweep().await;
        assert_eq!(cache.len(), 2);
        tokio::time::advance(SECOND).await;
        cache.sweep().await;
        assert_eq!(cache.len(), 1);
        assert!(cache.fresh(&key(&digest_key, 2), Instant::now()).is_some());
    }

    #[test]
    fn an_expired_token_reads_nothing_even_if_the_process_was_frozen() {
        let cache = Cache::new(Capacity {
            max_bytes: 1 << 20,
            max_entries: 100,
        });
        let digest_key = DigestKey::random().unwrap();
        cache.store(key(&digest_key, 1), entry(10, Some(unix_seconds() - 1)));
        cache.store(key(&digest_key, 2), entry(10, Some(unix_seconds() + 300)));
        let is_fresh = |n| cache.fresh(&key(&digest_key, n), Instant::now()).is_some();
        assert!(!is_fresh(1));
        assert!(is_fresh(2));
    }

    #[test]
    fn bytes_and_entries_are_bounded() {
        let digest_key = DigestKey::random().unwrap();
        for (capacity, body_bytes) in [
            (
                Capacity {
                    max_bytes: 100_000,
                    max_entries: 1_000_000,
                },
                10_000,
            ),
            (
                Capacity {
                    max_bytes: 100_000_000,
                    max_entries: 10,
                },
                10,
            ),
        ] {
            let cache = Cache::new(capacity);
            for n in 0..100 {
                cache.store(key(&digest_key, n), entry(body_bytes, None));
            }
            assert!((1..=10).contains(&cache.len()), "{}", cache.len());
            assert!(cache.weight_bytes() <= capacity.max_bytes);
        }
    }
}
