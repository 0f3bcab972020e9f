//! Where answers are while they are stored: a table in shards.
//!
//! quick_cache holds and evicts. It has no clock, so a [`Table`] keeps beside each answer
//! when it is of no more use, and [`Table::sweep`] frees what is: an answer is personal
//! data. A sweep looks at one shard after the other and stops when it has seen enough, so
//! that no request waits for it for long, however much is stored.

use std::collections::hash_map::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::Capacity;
use super::entry::Entry;
use super::key::CacheKey;

/// The answers of one process. All methods take `&self`; a lock is held for one look at
/// one shard.
pub(super) struct Table {
    /// A power of two of them.
    shards: Box<[Shard]>,
    /// The least that an answer weighs, so that bounding bytes bounds answers too.
    min_weight: u32,
    /// Since when seconds are counted.
    made_at: Instant,
    /// Where the next sweep begins.
    unswept: AtomicUsize,
}

type Shard = Cache<CacheKey, Slot, ByWeight, RandomState>;

/// An answer, with what the table asks of it: reading that must not take another read
/// from memory.
#[derive(Clone)]
struct Slot {
    entry: Arc<Entry>,
    weight: u32,
    /// From when on it is of no more use, in seconds of the table.
    gone_from: u32,
}

#[derive(Clone)]
struct ByWeight;

impl Weighter<CacheKey, Slot> for ByWeight {
    fn weight(&self, _key: &CacheKey, slot: &Slot) -> u64 {
        slot.weight.into()
    }
}

/// Answers rarely wait for each other with as many.
const MAX_SHARDS: u64 = 128;

/// Each shard has a part of the capacity for itself. As large a part holds several of the
/// largest answers, and so many of the others that the parts fill evenly.
const MIN_SHARD_BYTES: u64 = 4 << 20;
const MIN_SHARD_ENTRIES: u64 = 1024;

/// What part of a shard is for answers that have been asked for again; in the rest the
/// first to come is the first to go. A token is asked for a few times within a minute and
/// then never again, so that what is new deserves as much room as what was in use once.
const HOT: f64 = 0.5;

const ALMOST_A_SECOND: Duration = Duration::from_nanos(999_999_999);

/// After so many answers a sweep rests.
const SWEPT_AT_ONCE: usize = 1 << 15;

impl Table {
    pub(super) fn new(capacity: Capacity) -> Self {
        let Capacity {
            max_bytes,
            max_entries,
        } = capacity;
        let fitting = (max_bytes / MIN_SHARD_BYTES).min(max_entries / MIN_SHARD_ENTRIES);
        let shards = 1 << fitting.clamp(1, MAX_SHARDS).ilog2();
        let min_weight = u32::try_from(max_bytes / max_entries.max(1)).unwrap_or(u32::MAX);
        let options = OptionsBuilder::new()
            .shards(1)
            // The part must hold at least one answer, which may weigh all there is.
            .hot_allocation(if max_entries < 2 { 1.0 } else { HOT })
            .weight_capacity(max_bytes / shards)
            .estimated_items_capacity(usize::try_from(max_entries / shards).unwrap_or(usize::MAX))
            .build()
            .expect("both capacities are set");
        let shard = |_| {
            let (hash, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
            Cache::with_options(options.clone(), ByWeight, hash, lifecycle)
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            min_weight,
            made_at: Instant::now(),
            unswept: AtomicUsize::new(0),
        }
    }

    fn shard(&self, key: &CacheKey) -> &Shard {
        &self.shards[key.spread() % self.shards.len()]
    }

    pub(super) fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.shard(key).get(key).map(|slot| slot.entry)
    }

    /// Stores an answer in the place of an earlier one. One that no shard can hold is
    /// dropped, and the earlier one with it.
    pub(super) fn insert(&self, key: CacheKey, entry: Arc<Entry>) {
        // What is of use for a part of a second stays for all of it.
        let gone = entry.stored_at() + entry.lifetime().retained() + ALMOST_A_SECOND;
        let slot = Slot {
            weight: entry.weight().max(self.min_weight),
            gone_from: self.seconds(gone),
            entry,
        };
        self.shard(&key).insert(key, slot);
    }

    /// Removes an answer, unless another one has taken its place.
    pub(super) fn remove(&self, key: &CacheKey, entry: &Arc<Entry>) {
        let same = |slot: &Slot| Arc::ptr_eq(&slot.entry, entry);
        self.shard(key).remove_if(key, same);
    }

    /// Frees what is of no more use, beginning where the last sweep rested. Lets other
    /// tasks run after each shard; may be dropped at any time.
    pub(super) async fn sweep(&self) {
        let mut seen = 0;
        for _ in 0..self.shards.len() {
            let next = self.unswept.fetch_add(1, Ordering::Relaxed) % self.shards.len();
            let shard = &self.shards[next];
            let answers = shard.len();
            if answers == 0 {
                continue;
            }
            let now = self.seconds(Instant::now());
            shard.retain(|_, slot| slot.gone_from > now);
            seen += answers;
            if seen >= SWEPT_AT_ONCE {
                break;
            }
            yield_now().await;
        }
    }

    /// Whole seconds of the table at `at`.
    fn seconds(&self, at: Instant) -> u32 {
        let seconds = at.saturating_duration_since(self.made_at).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    pub(super) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        self.shards.iter().map(Cache::weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::Lifetime;
    use crate::cache::tests::{answer, key};
    use crate::token::DigestKey;

    const SECOND: Duration = Duration::from_secs(1);

    fn keys(count: usize) -> Vec<CacheKey> {
        let digest_key = DigestKey::random().unwrap();
        (0..count).map(|n| key(&digest_key, n)).collect()
    }

    fn entry(body_bytes: usize, retained: Duration) -> Arc<Entry> {
        let lifetime = Lifetime {
            initial_age: Duration::ZERO,
            fresh: retained,
            while_revalidate: retained,
            if_error: retained,
        };
        Arc::new(Entry::new(answer(body_bytes), lifetime, None))
    }

    /// As large as it takes for all shards to be there.
    fn large() -> Table {
        let table = Table::new(Capacity {
            max_bytes: 1 << 30,
            max_entries: 1 << 20,
        });
        assert_eq!(table.shards.len() as u64, MAX_SHARDS);
        table
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_rests_and_the_next_one_goes_on() {
        let table = large();
        let count = 3 * SWEPT_AT_ONCE;
        let (short, long) = (entry(10, SECOND), entry(10, 10 * SECOND));
        for (n, key) in keys(count).into_iter().enumerate() {
            let entry = if n % 2 == 0 { &short } else { &long };
            table.insert(key, Arc::clone(entry));
        }
        tokio::time::advance(SECOND / 2).await;
        for _ in 0..4 {
            table.sweep().await;
        }
        assert_eq!(table.len(), count as u64, "all are of use yet");
        tokio::time::advance(SECOND).await;
        table.sweep().await;
        let left = table.len() as usize;
        assert!(left < count && left > count / 2, "{left}");
        for _ in 0..4 {
            table.sweep().await;
        }
        assert_eq!(table.len(), count as u64 / 2);
        assert_eq!(Arc::strong_count(&short), 1);
        tokio::time::advance(9 * SECOND).await;
        for _ in 0..4 {
            table.sweep().await;
        }
        assert_eq!((table.len(), table.weight_bytes()), (0, 0));
        assert_eq!(Arc::strong_count(&long), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_of_use_for_a_part_of_a_second_stays_for_all_of_it() {
        let table = large();
        let [key] = keys(1)[..] else { unreachable!() };
        tokio::time::advance(SECOND / 4).await;
        table.insert(key, entry(10, SECOND / 4));
        tokio::time::advance(SECOND / 2).await;
        table.sweep().await;
        assert_eq!(table.len(), 1);
        tokio::time::advance(SECOND / 4).await;
        table.sweep().await;
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn what_took_its_place_is_not_removed_for_what_was_there() {
        let table = large();
        let [key] = keys(1)[..] else { unreachable!() };
        let (first, second) = (entry(10, SECOND), entry(10, SECOND));
        table.insert(key, Arc::clone(&first));
        table.insert(key, Arc::clone(&second));
        table.remove(&key, &first);
        assert!(Arc::ptr_eq(&table.get(&key).unwrap(), &second));
        table.remove(&key, &second);
        assert!(table.get(&key).is_none());
    }

    #[test]
    fn what_is_asked_for_stays_while_others_pass_through() {
        let table = Table::new(Capacity {
            max_bytes: 64 << 20,
            max_entries: 1000,
        });
        let keys = keys(10_000);
        let (asked, others) = keys.split_at(100);
        for key in asked {
            table.insert(*key, entry(10, SECOND));
        }
        for (n, key) in others.iter().enumerate() {
            table.insert(*key, entry(10, SECOND));
            let _: Option<_> = table.get(&asked[n % asked.len()]);
        }
        let kept = asked.iter().filter(|key| table.get(key).is_some()).count();
        assert!(kept >= 95, "{kept}");
        assert!(table.len() <= 1000 && table.len() >= 900, "{}", table.len());
    }

    #[test]
    fn a_large_table_is_as_full_as_a_small_one() {
        let table = Table::new(Capacity {
            max_bytes: 1 << 40,
            max_entries: 1 << 17,
        });
        for key in keys(1 << 18) {
            table.insert(key, entry(10, SECOND));
        }
        // The parts fill up one after the other.
        assert!(table.len() <= 1 << 17 && table.len() > (1 << 17) - (1 << 12));
    }

    #[test]
    fn the_smallest_tables_hold_as_many_as_they_may() {
        for max_entries in 1..=40 {
            let table = Table::new(Capacity {
                max_bytes: 1 << 20,
                max_entries,
            });
            let keys = keys(100);
            for key in &keys {
                table.insert(*key, entry(10, SECOND));
                assert!(table.get(key).is_some(), "of {max_entries}");
            }
            assert_eq!(table.len(), max_entries);
        }
    }

    #[test]
    fn what_no_shard_can_hold_is_not_stored() {
        let table = Table::new(Capacity {
            max_bytes: 4 << 20,
            max_entries: 100,
        });
        let [key] = keys(1)[..] else { unreachable!() };
        table.insert(key, entry(10, SECOND));
        table.insert(key, entry(5 << 20, SECOND));
        assert!(table.get(&key).is_none());
        assert_eq!(table.weight_bytes(), 0);
    }
}
