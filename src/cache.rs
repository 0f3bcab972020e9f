//! Stored answers: lookup, store, and their bounds.
//!
//! moka holds and evicts; [`policy`] decides what is fresh, on tokio's clock.
//! moka's own clock is used for one thing only: an answer that is of no more use
//! leaves memory at the next [`Cache::sweep`], for it is personal data.

pub mod entry;
pub mod key;
pub mod policy;
pub mod status;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::answer::Heads;
use entry::Entry;
use key::CacheKey;
use policy::{RequestDirectives, Use};

/// How much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes, bookkeeping included.
    pub max_bytes: u64,
    /// Answers.
    pub max_entries: u64,
}

/// The answers of one process. Cheap to share behind an `Arc`; all methods take
/// `&self` and none waits.
pub struct Cache {
    entries: moka::sync::Cache<CacheKey, Arc<Entry>>,
    /// What the heads of stored answers have in common.
    heads: Heads,
    /// The least that an entry weighs, so that bounding bytes bounds entries too.
    min_weight: u32,
    /// Whose clock frees memory.
    clock: Clock,
}

/// By whose clock an answer that is of no more use leaves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    Moka,
    Tokio,
}

/// What a lookup found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The stored answer.
    pub entry: Arc<Entry>,
    /// What it is good for, for the request that asked.
    pub good_for: Use,
}

impl Cache {
    /// An empty cache of the given capacity.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self::build(capacity, Clock::Moka)
    }

    /// The same for simulations, whose time moka's clock does not follow: here
    /// [`Cache::sweep`] looks at every answer.
    #[must_use]
    pub fn simulated(capacity: Capacity) -> Self {
        Self::build(capacity, Clock::Tokio)
    }

    fn build(capacity: Capacity, clock: Clock) -> Self {
        let min_weight = capacity.max_bytes / capacity.max_entries.max(1);
        let min_weight = u32::try_from(min_weight).unwrap_or(u32::MAX);
        let entries = moka::sync::Cache::builder()
            .max_capacity(capacity.max_bytes)
            .weigher(move |_, entry: &Arc<Entry>| entry.weight().max(min_weight))
            .expire_after(Retention(clock))
            .build();
        Self {
            entries,
            heads: Heads::default(),
            min_weight,
            clock,
        }
    }

    /// What the heads of answers have in common, for making answers that share it.
    #[must_use]
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Looks `key` up; answers what is stored unless it is of no more use. `now` is the
    /// time, or a moment ago.
    #[must_use]
    pub fn lookup(
        &self,
        key: &CacheKey,
        request: &RequestDirectives,
        now: Instant,
    ) -> Option<Found> {
        let entry = self.entries.get(key)?;
        if entry.has_expired(unix_seconds()) {
            self.entries.invalidate(key);
            return None;
        }
        let good_for = policy::judge(&entry.lifetime(), entry.resident(now), request);
        (good_for != Use::Expired).then_some(Found { entry, good_for })
    }

    /// Stores an answer in the place of an earlier one.
    pub fn store(&self, key: CacheKey, entry: Arc<Entry>) {
        self.entries.insert(key, entry);
    }

    /// Frees what has expired or been evicted. To be called now and then, for
    /// moka has no thread of its own.
    pub fn sweep(&self) {
        if self.clock == Clock::Tokio {
            let now = Instant::now();
            for (key, entry) in &self.entries {
                if entry.resident(now) >= entry.lifetime().retained() {
                    self.entries.invalidate(&*key);
                }
            }
        }
        self.entries.run_pending_tasks();
    }

    /// How many answers are stored; exact after [`Cache::sweep`].
    #[must_use]
    pub fn len(&self) -> u64 {
        self.entries.entry_count()
    }

    /// Whether nothing is stored; exact after [`Cache::sweep`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much is stored, in bytes as the capacity counts them.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.entries.weighted_size()
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("len", &self.len())
            .field("min_weight", &self.min_weight)
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

/// Lets an entry leave memory when it is of no more use.
struct Retention(Clock);

#[expect(
    clippy::disallowed_types,
    reason = "moka's clock, which frees memory and decides nothing"
)]
impl moka::Expiry<CacheKey, Arc<Entry>> for Retention {
    fn expire_after_create(
        &self,
        _key: &CacheKey,
        entry: &Arc<Entry>,
        _now: std::time::Instant,
    ) -> Option<Duration> {
        (self.0 == Clock::Moka).then(|| entry.lifetime().retained())
    }

    fn expire_after_update(
        &self,
        key: &CacheKey,
        entry: &Arc<Entry>,
        now: std::time::Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, now)
    }
}

#[cfg(test)]
mod tests {
    use super::policy::Lifetime;
    use super::*;
    use crate::answer::Answer;
    use crate::route::Region;
    use crate::token::{BearerToken, DigestKey};
    use http::uri::PathAndQuery;
    use http::{HeaderMap, StatusCode};

    const SECOND: Duration = Duration::from_secs(1);

    fn key(digest_key: &DigestKey, n: usize) -> CacheKey {
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

    fn entry(body_bytes: usize, expires_at: Option<u64>) -> Arc<Entry> {
        let body = vec![b'x'; body_bytes];
        let answer = Answer::new(StatusCode::OK, HeaderMap::new(), &body, &Heads::default());
        let lifetime = Lifetime {
            initial_age: Duration::ZERO,
            fresh: 10 * SECOND,
            while_revalidate: 10 * SECOND,
            if_error: 30 * SECOND,
        };
        Arc::new(Entry::new(answer, lifetime, expires_at))
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
        let uses = async |after: Duration| {
            tokio::time::advance(after).await;
            cache
                .lookup(&key, &RequestDirectives::default(), Instant::now())
                .map(|found| found.good_for)
        };
        assert_eq!(uses(Duration::ZERO).await, Some(Use::Fresh));
        assert_eq!(uses(9 * SECOND).await, Some(Use::Fresh));
        assert_eq!(uses(SECOND).await, Some(Use::IfError));
        assert_eq!(uses(20 * SECOND).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_cache_frees_memory_by_simulated_time() {
        let cache = Cache::simulated(Capacity {
            max_bytes: 1 << 20,
            max_entries: 100,
        });
        let digest_key = DigestKey::random().unwrap();
        cache.store(key(&digest_key, 1), entry(10, None));
        tokio::time::advance(29 * SECOND).await;
        cache.store(key(&digest_key, 2), entry(10, None));
        cache.sweep();
        assert_eq!(cache.len(), 2);
        tokio::time::advance(SECOND).await;
        cache.sweep();
        assert_eq!(cache.len(), 1);
        let any = RequestDirectives::default();
        assert!(
            cache
                .lookup(&key(&digest_key, 2), &any, Instant::now())
                .is_some()
        );
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
        let any = RequestDirectives::default();
        assert!(
            cache
                .lookup(&key(&digest_key, 1), &any, Instant::now())
                .is_none()
        );
        assert!(
            cache
                .lookup(&key(&digest_key, 2), &any, Instant::now())
                .is_some()
        );
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
            cache.sweep();
            assert!((1..=10).contains(&cache.len()), "{}", cache.len());
            assert!(cache.weight_bytes() <= capacity.max_bytes);
        }
    }
}
