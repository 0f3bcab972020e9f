//! Request coalescing: one flight per key, any number of waiters.
//!
//! A flight is a fetch in a task of its own, so it does not depend on any request
//! that waits for it. Guarantees:
//!
//! - At most one flight per key can be joined at a time.
//! - Every flight lands. It frees its key *before* it publishes its outcome, and a
//!   drop guard publishes a loss if its task panics or is aborted.
//! - Every waiter gets the outcome of the flight it joined, whatever that is. There
//!   is no second leader and no second fetch; a later request starts a new flight.
//! - Dropping a [`Waiter`] leaves the flight. Through [`Interest`] a flight learns
//!   that all waiters have left, and may then end early.
//! - Waiters are bounded, per key and in total.
//!
//! What is fetched is the caller's business: errors are outcomes like any other,
//! and a flight must end at the deadline that it is started with.

mod flight;
mod registry;
#[cfg(test)]
mod tests;
mod waiter;

use std::sync::Arc;

use tokio::time::Instant;

pub use flight::Interest;
use flight::Running;
use registry::Registry;
pub use registry::{Key, Outcome, Policy, TooManyWaiters};
pub use waiter::{NotLanded, Waiter};

/// The flights of one process. Cheap to clone; clones share the flights.
pub struct Flights<K: Key, T> {
    registry: Arc<Registry<K, T>>,
}

impl<K: Key, T: Outcome> Flights<K, T> {
    /// No flights yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            registry: Arc::default(),
        }
    }

    /// Joins the flight for `key`, or starts one that lands by `deadline`: `fetch`
    /// makes its future, which is spawned at once. Must be called within a runtime.
    ///
    /// # Errors
    /// `limits` allow no further waiter.
    pub fn join<F>(
        &self,
        key: K,
        deadline: Instant,
        limits: &Policy,
        fetch: impl FnOnce(Interest<K, T>) -> F,
    ) -> Result<Waiter<K, T>, TooManyWaiters>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let waiter = Waiter::enter(&self.registry, key, deadline, limits)?;
        if !waiter.collapsed() {
            let fetch = fetch(Interest::in_flight(waiter.flight()));
            tokio::spawn(Running::new(fetch, waiter.flight()));
        }
        Ok(waiter)
    }

    /// Whether there is a flight for `key` that can be joined.
    #[must_use]
    pub fn is_in_flight(&self, key: &K) -> bool {
        self.registry.joinable().contains_key(key)
    }

    /// The number of flights that can be joined.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.registry.joinable().len()
    }

    /// The number of waiters of all flights.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.registry.waiting()
    }
}

impl<K: Key, T: Outcome> Default for Flights<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
        }
    }
}
