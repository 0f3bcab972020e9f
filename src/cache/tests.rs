//! What the cache guarantees to a caller.

use super::testing::{entry, keys, response};
use super::*;
use policy::Lifetime;

const SECOND: Duration = Duration::from_secs(1);

fn cache(max_bytes: u64, max_entries: u64) -> Cache {
    Cache::new(Capacity {
        max_bytes,
        max_entries,
    })
}

#[tokio::test(start_paused = true)]
async fn a_response_is_fresh_then_a_fallback_then_gone() {
    let (cache, keys) = (cache(1 << 20, 100), keys(1));
    let lifetime = Lifetime {
        initial_age: Duration::ZERO,
        fresh: 10 * SECOND,
        while_revalidate: 10 * SECOND,
        if_error: 30 * SECOND,
    };
    cache.store(keys[0], Arc::new(Entry::new(response(10), lifetime, None)));
    let after = async |span: Duration| {
        tokio::time::advance(span).await;
        match cache.lookup(&keys[0], &RequestDirectives::default(), Instant::now()) {
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
async fn expired_responses_are_removed_and_no_others() {
    let (cache, keys) = (cache(1 << 30, 10_000), keys(3000));
    let (short, long) = (entry(10, SECOND), entry(10, 10 * SECOND));
    for (n, key) in keys.iter().enumerate() {
        let entry = if n % 2 == 0 { &short } else { &long };
        cache.store(*key, Arc::clone(entry));
    }
    tokio::time::advance(SECOND - Duration::from_millis(1)).await;
    cache.sweep().await;
    assert_eq!(cache.len(), 3000);
    tokio::time::advance(SECOND / 4).await;
    cache.sweep().await;
    assert_eq!(cache.len(), 1500);
    assert!(cache.fresh(&keys[1], Instant::now()).is_some());
    tokio::time::advance(9 * SECOND).await;
    cache.sweep().await;
    assert_eq!((cache.len(), cache.weight_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_retained_for_long_is_removed_on_time() {
    let (cache, keys) = (cache(1 << 20, 100), keys(1));
    cache.store(keys[0], entry(10, 3600 * SECOND));
    for _ in 0..3599 {
        tokio::time::advance(SECOND).await;
        cache.sweep().await;
        assert_eq!(cache.len(), 1);
    }
    tokio::time::advance(SECOND).await;
    cache.sweep().await;
    assert_eq!(cache.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_response_is_not_removed_when_the_one_before_would_have_expired() {
    let (cache, keys) = (cache(1 << 20, 100), keys(1));
    cache.store(keys[0], entry(10, SECOND));
    tokio::time::advance(SECOND / 2).await;
    cache.store(keys[0], entry(10, SECOND));
    tokio::time::advance(SECOND * 3 / 4).await;
    cache.sweep().await;
    assert_eq!(cache.len(), 1);
    tokio::time::advance(SECOND / 4).await;
    cache.sweep().await;
    assert_eq!(cache.len(), 0);
}

#[test]
fn an_expired_token_reads_nothing_even_if_the_process_was_frozen() {
    let (cache, keys) = (cache(1 << 20, 100), keys(2));
    let expiring = |at: u64| {
        let lifetime = entry(10, 10 * SECOND).lifetime();
        Arc::new(Entry::new(response(10), lifetime, Some(at)))
    };
    cache.store(keys[0], expiring(unix_seconds() - 1));
    cache.store(keys[1], expiring(unix_seconds() + 300));
    assert!(cache.fresh(&keys[0], Instant::now()).is_none());
    assert!(cache.fresh(&keys[1], Instant::now()).is_some());
    assert_eq!(cache.len(), 1);
}

#[test]
fn bytes_and_entries_are_bounded() {
    for (max_bytes, max_entries, body_bytes) in
        [(100_000, 1_000_000, 10_000), (100_000_000, 10, 10)]
    {
        let cache = cache(max_bytes, max_entries);
        for key in keys(100) {
            cache.store(key, entry(body_bytes, 10 * SECOND));
        }
        assert!((9..=10).contains(&cache.len()), "{}", cache.len());
        assert!(cache.weight_bytes() <= max_bytes);
    }
}

#[test]
fn the_smallest_caches_hold_as_many_responses_as_they_may() {
    for max_entries in 1..=40 {
        let (cache, keys) = (cache(1 << 20, max_entries), keys(100));
        for key in &keys {
            cache.store(*key, entry(10, 10 * SECOND));
            assert!(cache.fresh(key, Instant::now()).is_some());
        }
        assert_eq!(cache.len(), max_entries);
        assert!(cache.fresh(&keys[99], Instant::now()).is_some());
    }
}

#[test]
fn the_least_recently_used_responses_are_evicted() {
    let (cache, keys) = (cache(64 << 20, 1000), keys(10_000));
    let (used, others) = keys.split_at(100);
    for key in used {
        cache.store(*key, entry(10, 10 * SECOND));
    }
    for (n, key) in others.iter().enumerate() {
        cache.store(*key, entry(10, 10 * SECOND));
        let used = cache.fresh(&used[n % used.len()], Instant::now());
        assert!(used.is_some(), "at {n}");
    }
    assert_eq!(cache.len(), 1000);
}

#[test]
fn a_response_that_is_larger_than_the_cache_is_not_kept() {
    let (cache, keys) = (cache(4 << 20, 100), keys(1));
    cache.store(keys[0], entry(10, 10 * SECOND));
    cache.store(keys[0], entry(5 << 20, 10 * SECOND));
    assert_eq!((cache.len(), cache.weight_bytes()), (0, 0));
    assert!(cache.fresh(&keys[0], Instant::now()).is_none());
}
