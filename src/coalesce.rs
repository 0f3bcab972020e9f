//! Flights: one fetch per key, any number of waiters.
//!
//! A flight runs in a task of its own, so a caller that leaves takes nothing down
//! with it. What is guaranteed:
//!
//! - At most one flight per key is joinable at a time.
//! - A flight always lands: its key is freed *before* its outcome is published,
//!   and a guard publishes [`Lost`] if the task panics or is aborted.
//! - Whoever joined gets the flight's own outcome, whatever it is. Nobody is
//!   elected anew and nothing is fetched twice; a later request starts afresh.
//! - Dropping a [`Waiter`] leaves the flight. When all have left before anything
//!   was sent, the flight may end by [`Interest::abandoned`].
//! - Waiters are bounded, per key and in total.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// How many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaiterLimits {
    /// For one flight.
    pub max_waiters_per_key: usize,
    /// For all flights together.
    pub max_waiters: usize,
}

/// What names a flight.
pub trait Key: Clone + Eq + Hash + Send + 'static {}

impl<K: Clone + Eq + Hash + Send + 'static> Key for K {}

/// What a flight brings, shared by cloning.
pub trait Outcome: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Outcome for T {}

/// The flights of one process. Cheap to clone; clones share the flights.
pub struct Flights<K, T> {
    state: Arc<Mutex<State<K, T>>>,
}

struct State<K, T> {
    flights: HashMap<K, Flight<T>>,
    waiting: usize,
    /// Tells a flight from a later one of the same key.
    next_id: u64,
}

struct Flight<T> {
    id: u64,
    outcome: watch::Receiver<Option<T>>,
    /// How many wait; the flight watches it to learn that all have left.
    waiting: watch::Sender<usize>,
}

/// A flight ended without an outcome: its task panicked or was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// A request cannot join: as many wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWaiters;

impl<K: Key, T: Outcome> Flights<K, T> {
    /// No flights yet.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            flights: HashMap::new(),
            waiting: 0,
            next_id: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Joins the flight for `key`, or starts it with the future that `fetch`
    /// makes. Must be called within a runtime.
    ///
    /// # Errors
    /// As many wait as `limits` allow.
    pub fn join<F>(
        &self,
        key: K,
        limits: &WaiterLimits,
        fetch: impl FnOnce(Interest<K, T>) -> F,
    ) -> Result<Waiter<K, T>, TooManyWaiters>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut state = self.lock();
        if state.waiting >= limits.max_waiters {
            return Err(TooManyWaiters);
        }
        let id = state.next_id;
        let (flight, start) = match state.flights.entry(key.clone()) {
            Entry::Occupied(flight) => (flight.into_mut(), None),
            Entry::Vacant(vacant) => {
                let (publish, outcome) = watch::channel(None);
                let waiting = watch::Sender::new(0);
                let start = (publish, waiting.subscribe());
                (
                    vacant.insert(Flight {
                        id,
                        outcome,
                        waiting,
                    }),
                    Some(start),
                )
            }
        };
        if *flight.waiting.borrow() >= limits.max_waiters_per_key {
            return Err(TooManyWaiters);
        }
        flight.waiting.send_modify(|waiting| *waiting += 1);
        let waiter = Waiter {
            flights: self.clone(),
            key: key.clone(),
            id: flight.id,
            outcome: flight.outcome.clone(),
            collapsed: start.is_none(),
        };
        state.waiting += 1;
        state.next_id += u64::from(start.is_some());
        drop(state);
        if let Some((publish, waiting)) = start {
            let landing = Landing {
                flights: self.clone(),
                key: key.clone(),
                id,
                publish,
            };
            let interest = Interest {
                flights: self.clone(),
                key,
                id,
                waiting,
            };
            let fetch = fetch(interest);
            tokio::spawn(async move { landing.land(fetch.await) });
        }
        Ok(waiter)
    }

    /// Whether a flight for `key` is in the air.
    #[must_use]
    pub fn is_in_flight(&self, key: &K) -> bool {
        self.lock().flights.contains_key(key)
    }

    /// How many flights are in the air.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().flights.len()
    }

    /// How many requests wait for one.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Frees `key` if it still belongs to flight `id`.
    fn remove(&self, key: &K, id: u64) {
        let mut state = self.lock();
        if state.flights.get(key).is_some_and(|flight| flight.id == id) {
            state.flights.remove(key);
        }
    }

    fn leave(&self, key: &K, id: u64) {
        let mut state = self.lock();
        state.waiting -= 1;
        if let Some(flight) = state.flights.get(key).filter(|flight| flight.id == id) {
            flight.waiting.send_modify(|waiting| *waiting -= 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, T>> {
        // Nothing panics while the lock is held, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl<K: Key, T: Outcome> Default for Flights<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

/// One request's place in a flight. Dropping it leaves the flight.
pub struct Waiter<K: Key, T: Outcome> {
    flights: Flights<K, T>,
    key: K,
    id: u64,
    outcome: watch::Receiver<Option<T>>,
    collapsed: bool,
}

impl<K: Key, T: Outcome> Waiter<K, T> {
    /// Whether the flight was already in the air.
    #[must_use]
    pub fn collapsed(&self) -> bool {
        self.collapsed
    }

    /// Waits for the flight to land. May be cancelled and called again.
    ///
    /// # Errors
    /// The flight's task panicked or was aborted.
    pub async fn landed(&mut self) -> Result<T, Lost> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).ok_or(Lost)
    }
}

impl<K: Key, T: Outcome> Drop for Waiter<K, T> {
    fn drop(&mut self) {
        self.flights.leave(&self.key, self.id);
    }
}

/// A flight's view of those who wait for it.
pub struct Interest<K, T> {
    flights: Flights<K, T>,
    key: K,
    id: u64,
    waiting: watch::Receiver<usize>,
}

impl<K: Key, T: Outcome> Interest<K, T> {
    /// Completes when nobody waits any more; from then on nobody can join, so the
    /// flight may end without having done anything. Cancelling it keeps the
    /// flight joinable.
    pub async fn abandoned(&self) {
        let mut waiting = self.waiting.clone();
        loop {
            // The sender lives as long as the key; without it, all is over.
            if waiting.wait_for(|&waiting| waiting == 0).await.is_err() {
                return;
            }
            let mut state = self.flights.lock();
            match state
                .flights
                .get(&self.key)
                .filter(|flight| flight.id == self.id)
            {
                // Somebody came in between.
                Some(flight) if *flight.waiting.borrow() > 0 => {}
                Some(_) => {
                    state.flights.remove(&self.key);
                    return;
                }
                None => return,
            }
        }
    }
}

/// Frees the key, then publishes the outcome, also if there is none.
struct Landing<K: Key, T: Outcome> {
    flights: Flights<K, T>,
    key: K,
    id: u64,
    /// Dropped without a value, it tells the waiters that the flight is lost.
    publish: watch::Sender<Option<T>>,
}

impl<K: Key, T: Outcome> Landing<K, T> {
    fn land(self, outcome: T) {
        self.flights.remove(&self.key, self.id);
        self.publish.send_replace(Some(outcome));
    }
}

impl<K: Key, T: Outcome> Drop for Landing<K, T> {
    fn drop(&mut self) {
        self.flights.remove(&self.key, self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::oneshot;

    const ROOMY: WaiterLimits = WaiterLimits {
        max_waiters_per_key: 10_000,
        max_waiters: 10_000,
    };

    type TestFlights = Flights<&'static str, u32>;

    /// A flight that lands when told to, and counts how often it was started.
    struct Script {
        flights: TestFlights,
        started: Arc<AtomicUsize>,
    }

    impl Script {
        fn new() -> Self {
            Self {
                flights: Flights::new(),
                started: Arc::default(),
            }
        }

        fn join(&self, outcome: oneshot::Receiver<u32>) -> Waiter<&'static str, u32> {
            let started = Arc::clone(&self.started);
            let waiter = self.flights.join("key", &ROOMY, move |_| async move {
                started.fetch_add(1, Ordering::SeqCst);
                outcome.await.expect("the script panics on purpose")
            });
            waiter.unwrap()
        }

        fn started(&self) -> usize {
            self.started.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn all_waiters_share_one_fetch() {
        let script = Script::new();
        let (land, outcome) = oneshot::channel();
        let mut waiters = vec![script.join(outcome)];
        waiters.extend((0..999).map(|_| script.join(oneshot::channel().1)));
        assert_eq!(
            waiters.iter().filter(|waiter| waiter.collapsed()).count(),
            999
        );
        assert_eq!(
            (script.flights.in_flight(), script.flights.waiting()),
            (1, 1000)
        );
        land.send(7).unwrap();
        for waiter in &mut waiters {
            assert_eq!(waiter.landed().await, Ok(7));
        }
        drop(waiters);
        assert_eq!(script.started(), 1);
        assert_eq!(
            (script.flights.in_flight(), script.flights.waiting()),
            (0, 0)
        );
    }

    #[tokio::test]
    async fn the_leader_leaving_changes_nothing_for_the_others() {
        let script = Script::new();
        let (land, outcome) = oneshot::channel();
        let leader = script.join(outcome);
        let mut other = script.join(oneshot::channel().1);
        drop(leader);
        land.send(7).unwrap();
        assert_eq!(other.landed().await, Ok(7));
        assert_eq!(script.started(), 1);
    }

    #[tokio::test]
    async fn a_flight_lands_even_if_all_leave() {
        let flights = TestFlights::new();
        let (land, outcome) = oneshot::channel::<u32>();
        let (stored, was_stored) = oneshot::channel();
        let waiter = flights.join("key", &ROOMY, |_| async move {
            let outcome = outcome.await.unwrap();
            stored.send(outcome).unwrap();
            outcome
        });
        drop(waiter);
        land.send(7).unwrap();
        assert_eq!(was_stored.await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_reaches_every_waiter_and_frees_the_key() {
        let script = Script::new();
        let (land, outcome) = oneshot::channel();
        let (mut leader, mut other) = (script.join(outcome), script.join(oneshot::channel().1));
        drop(land);
        assert_eq!(leader.landed().await, Err(Lost));
        assert_eq!(other.landed().await, Err(Lost));
        assert_eq!(script.flights.in_flight(), 0);
    }

    #[tokio::test]
    async fn the_key_is_free_before_the_outcome_is_known() {
        let script = Script::new();
        for round in 1..=100 {
            let (land, outcome) = oneshot::channel();
            let mut waiter = script.join(outcome);
            assert!(!waiter.collapsed());
            land.send(round).unwrap();
            assert_eq!(waiter.landed().await, Ok(round));
        }
        assert_eq!(script.started(), 100);
    }

    #[tokio::test]
    async fn an_abandoned_flight_ends_and_cannot_be_joined() {
        let flights = TestFlights::new();
        let (ended, has_ended) = oneshot::channel();
        let waiter = flights.join("key", &ROOMY, |interest| async move {
            interest.abandoned().await;
            ended.send(()).unwrap();
            0
        });
        assert_eq!(flights.in_flight(), 1);
        drop(waiter);
        has_ended.await.unwrap();
        let mut next = flights.join("key", &ROOMY, |_| async { 1 }).unwrap();
        assert_eq!(next.landed().await, Ok(1));
    }

    #[tokio::test]
    async fn a_flight_that_is_joined_again_is_not_abandoned() {
        let flights = TestFlights::new();
        let (land, outcome) = oneshot::channel();
        let leader = flights.join("key", &ROOMY, |interest| async move {
            tokio::select! {
                biased;
                () = interest.abandoned() => 0,
                outcome = outcome => outcome.unwrap(),
            }
        });
        // Nothing runs in between: the flight sees one waiter go and one come.
        drop(leader);
        let mut other = flights.join("key", &ROOMY, |_| async { 1 }).unwrap();
        assert!(other.collapsed());
        tokio::task::yield_now().await;
        land.send(7).unwrap();
        assert_eq!(other.landed().await, Ok(7));
    }

    #[tokio::test]
    async fn waiters_are_bounded_per_key_and_in_total() {
        let flights = TestFlights::new();
        let limits = WaiterLimits {
            max_waiters_per_key: 2,
            max_waiters: 3,
        };
        let join = |key| flights.join(key, &limits, |_| std::future::pending());
        let _held = (join("a").unwrap(), join("a").unwrap());
        assert_eq!(join("a").err(), Some(TooManyWaiters));
        let held = join("b").unwrap();
        assert_eq!(join("c").err(), Some(TooManyWaiters));
        drop(held);
        assert!(join("c").is_ok());
    }
}
