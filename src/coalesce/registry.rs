//! The flights that can be joined, and the state that a flight shares with its
//! waiters.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How many requests may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Waiters of one flight, at least 1.
    pub max_waiters_per_key: usize,
    /// Waiters of all flights together, at least 1.
    pub max_waiters: usize,
}

/// What identifies a flight.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Key for K {}

/// What a flight ends with. Each waiter gets a clone.
pub trait Outcome: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Outcome for T {}

/// A request cannot wait: the limit for its key, or for all keys, is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests wait for calls in flight")]
pub struct TooManyWaiters;

/// The flights that can be joined.
pub(super) struct Registry<K: Key, T> {
    /// Locked to join a flight and to end joining. Leaving takes no lock, so that a
    /// thousand waiters of one flight do not contend for it.
    joinable: Mutex<Joinable<K, T>>,
    /// Waiters of all flights. Incremented under the lock only.
    waiting: AtomicUsize,
}

pub(super) type Joinable<K, T> = HashMap<K, Arc<FlightState<K, T>>>;

/// What a flight and its waiters share.
pub(super) struct FlightState<K: Key, T> {
    registry: Arc<Registry<K, T>>,
    key: K,
    /// When the flight lands at the latest.
    pub(super) deadline: Instant,
    /// Set once: the outcome, or `None` if the flight is lost.
    pub(super) outcome: OnceLock<Option<T>>,
    /// Notifies the waiters of the outcome.
    pub(super) landed: Notify,
    /// Incremented under the registry's lock only.
    waiting: AtomicUsize,
    /// Notifies the flight that the last waiter has left.
    pub(super) deserted: Notify,
}

impl<K: Key, T> Registry<K, T> {
    pub(super) fn joinable(&self) -> MutexGuard<'_, Joinable<K, T>> {
        self.joinable.lock()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Adds a waiter to the flight for `key`, which is created if the key is free.
    /// Returns the flight and whether it was there before.
    pub(super) fn enter(
        self: &Arc<Self>,
        key: K,
        deadline: Instant,
        limits: &Policy,
    ) -> Result<(Arc<FlightState<K, T>>, bool), TooManyWaiters> {
        let mut joinable = self.joinable.lock();
        if self.waiting() >= limits.max_waiters {
            return Err(TooManyWaiters);
        }
        let (flight, joined) = match joinable.entry(key) {
            Entry::Occupied(flight) => (Arc::clone(flight.get()), true),
            Entry::Vacant(vacant) => {
                let key = vacant.key().clone();
                let flight = Arc::new(FlightState::new(Arc::clone(self), key, deadline));
                vacant.insert(Arc::clone(&flight));
                (flight, false)
            }
        };
        if flight.waiting() >= limits.max_waiters_per_key {
            return Err(TooManyWaiters);
        }
        flight.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Ok((flight, joined))
    }
}

impl<K: Key, T> Default for Registry<K, T> {
    fn default() -> Self {
        Self {
            joinable: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl<K: Key, T> FlightState<K, T> {
    fn new(registry: Arc<Registry<K, T>>, key: K, deadline: Instant) -> Self {
        Self {
            registry,
            key,
            deadline,
            outcome: OnceLock::new(),
            landed: Notify::new(),
            waiting: AtomicUsize::new(0),
            deserted: Notify::new(),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts one waiter less.
    pub(super) fn leave(&self) {
        self.registry.waiting.fetch_sub(1, Ordering::Relaxed);
        if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.deserted.notify_one();
        }
    }

    /// Frees the key, then publishes the outcome; `None` means lost. Only the first
    /// outcome counts.
    pub(super) fn land(self: &Arc<Self>, outcome: Option<T>) {
        self.close_if(|| true);
        if self.outcome.set(outcome).is_ok() {
            self.landed.notify_waiters();
        }
    }

    /// Frees the key if `condition` holds while nobody can join. Returns whether the
    /// flight can no longer be joined.
    pub(super) fn close_if(self: &Arc<Self>, condition: impl FnOnce() -> bool) -> bool {
        let mut joinable = self.registry.joinable.lock();
        // The key may be free already, or belong to a later flight.
        let is_this = |found: &Arc<Self>| Arc::ptr_eq(found, self);
        if !joinable.get(&self.key).is_some_and(is_this) {
            return true;
        }
        let close = condition();
        if close {
            joinable.remove(&self.key);
        }
        close
    }
}
