//! Flights: one fetch per key, any number of waiters.
//!
//! Whoever starts a flight drives it while waiting for it, which spares the switches
//! between tasks; if that request leaves, the flight goes on in a task of its own, so
//! that it takes nothing down with it. What is guaranteed:
//!
//! - At most one flight per key is joinable at a time.
//! - A flight always lands: its key is freed *before* its outcome is published,
//!   and a guard publishes [`Lost`] if it panics or its task is aborted.
//! - Whoever joined gets the flight's own outcome, whatever it is. Nobody is
//!   elected anew and nothing is fetched twice; a later request starts afresh.
//! - Dropping a [`Waiter`] leaves the flight. When all have left before anything
//!   was sent, the flight may end by [`Interest::abandoned`].
//! - Waiters are bounded, per key and in total.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;
use tokio::sync::Notify;

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
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Key for K {}

/// What a flight brings, shared by cloning.
pub trait Outcome: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Outcome for T {}

/// The flights of one process. Cheap to clone; clones share the flights.
pub struct Flights<K: Key, T> {
    shared: Arc<Shared<K, T>>,
}

struct Shared<K: Key, T> {
    /// Those that can be joined. Whoever joins, or sees that nobody can any more, holds
    /// the lock; leaving takes none, so that a thousand waiters do not queue for it.
    flights: Mutex<Joinable<K, T>>,
    /// How many wait for all flights together; grows under the lock only.
    waiting: AtomicUsize,
}

type Joinable<K, T> = HashMap<K, Arc<Flight<K, T>>>;

/// What a flight and those who wait for it share.
struct Flight<K: Key, T> {
    flights: Flights<K, T>,
    key: K,
    /// Set once; without a value inside, the flight is lost.
    outcome: OnceLock<Option<T>>,
    /// Tells the waiters.
    landed: Notify,
    /// How many wait; grows under the lock only.
    waiting: AtomicUsize,
    /// Tells the flight that the last waiter has left.
    left: Notify,
}

/// A flight ended without an outcome: it panicked, or its task was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// A request cannot join: as many wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWaiters;

impl<K: Key, T: Outcome> Flights<K, T> {
    /// No flights yet.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared {
            flights: Mutex::default(),
            waiting: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Joins the flight for `key`, or starts it with the future that `fetch`
    /// makes. Whoever starts it must await or drop the waiter, and in a runtime.
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
        let mut flights = self.lock();
        if self.waiting() >= limits.max_waiters {
            return Err(TooManyWaiters);
        }
        let (flight, collapsed) = match flights.entry(key) {
            Entry::Occupied(flight) => (Arc::clone(flight.get()), true),
            Entry::Vacant(vacant) => {
                let flight = Arc::new(Flight::new(self.clone(), vacant.key().clone()));
                vacant.insert(Arc::clone(&flight));
                (flight, false)
            }
        };
        if flight.waiting.load(Ordering::Relaxed) >= limits.max_waiters_per_key {
            return Err(TooManyWaiters);
        }
        flight.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        drop(flights);
        let mut waiter = Waiter {
            flight,
            collapsed,
            flying: None,
        };
        if !collapsed {
            let landing = Landing(Arc::clone(&waiter.flight));
            let fetch = fetch(Interest(Arc::clone(&waiter.flight)));
            let fetch = Box::pin(fetch);
            waiter.flying = Some(Flying { fetch, landing });
        }
        Ok(waiter)
    }

    /// Whether a flight for `key` is in the air.
    #[must_use]
    pub fn is_in_flight(&self, key: &K) -> bool {
        self.lock().contains_key(key)
    }

    /// How many flights are in the air.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().len()
    }

    /// How many requests wait for one.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }
}

impl<K: Key, T> Flights<K, T> {
    fn lock(&self) -> MutexGuard<'_, Joinable<K, T>> {
        // Nothing panics while the lock is held, so a poisoned map is whole.
        self.shared
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Key, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<K: Key, T: Outcome> Default for Flights<K, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, T> Flight<K, T> {
    fn new(flights: Flights<K, T>, key: K) -> Self {
        Self {
            flights,
            key,
            outcome: OnceLock::new(),
            landed: Notify::new(),
            waiting: AtomicUsize::new(0),
            left: Notify::new(),
        }
    }

    /// Frees the key, then tells everybody; only the first outcome counts.
    fn land(self: &Arc<Self>, outcome: Option<T>) {
        self.free_if(|| true);
        if self.outcome.set(outcome).is_ok() {
            self.landed.notify_waiters();
        }
    }

    /// Frees the key if it still belongs to this flight and `condition` holds while
    /// nobody can join. Whether nobody can join any more.
    fn free_if(self: &Arc<Self>, condition: impl FnOnce() -> bool) -> bool {
        let mut flights = self.flights.lock();
        match flights.entry(self.key.clone()) {
            Entry::Occupied(found) if Arc::ptr_eq(found.get(), self) => {
                let may = condition();
                if may {
                    found.remove();
                }
                may
            }
            _ => true,
        }
    }
}

/// One request's place in a flight. Dropping it leaves the flight.
pub struct Waiter<K: Key, T: Outcome> {
    flight: Arc<Flight<K, T>>,
    collapsed: bool,
    /// The flight itself, until it has landed, if this request started it.
    flying: Option<Flying<K, T>>,
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
    /// The flight panicked, or its task was aborted.
    pub async fn landed(&mut self) -> Result<T, Lost> {
        if let Some(flying) = &mut self.flying {
            poll_fn(|cx| {
                let poll = AssertUnwindSafe(|| Pin::new(&mut *flying).poll(cx));
                // A panic is the flight's, as it would be in a task of its own; this
                // request is one of those who are told.
                catch_unwind(poll).unwrap_or(Poll::Ready(()))
            })
            .await;
            // If it panicked, it is lost by this.
            self.flying = None;
        } else {
            // Made before the look, it is told of what happens after the look.
            let landed = self.flight.landed.notified();
            if self.flight.outcome.get().is_none() {
                landed.await;
            }
        }
        self.flight.outcome.get().cloned().flatten().ok_or(Lost)
    }
}

impl<K: Key, T: Outcome> Drop for Waiter<K, T> {
    fn drop(&mut self) {
        self.flight
            .flights
            .shared
            .waiting
            .fetch_sub(1, Ordering::Relaxed);
        if self.flight.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.flight.left.notify_one();
        }
        if let Some(flying) = self.flying.take()
            && let Ok(runtime) = Handle::try_current()
        {
            // Without a runtime there is nothing left that could carry it on.
            runtime.spawn(flying);
        }
    }
}

/// A flight's view of those who wait for it.
pub struct Interest<K: Key, T>(Arc<Flight<K, T>>);

impl<K: Key, T: Outcome> Interest<K, T> {
    /// Completes when nobody waits any more; from then on nobody can join, so the
    /// flight may end without having done anything. Cancelling it keeps the
    /// flight joinable.
    pub async fn abandoned(&self) {
        let is_abandoned = || self.0.waiting.load(Ordering::Relaxed) == 0;
        loop {
            // A notification that comes while nobody listens is kept.
            let left = self.0.left.notified();
            // Somebody may come in between, and then again be the last to leave.
            if is_abandoned() && self.0.free_if(is_abandoned) {
                return;
            }
            left.await;
        }
    }
}

/// A flight in the air, driven by whoever polls it.
struct Flying<K: Key, T> {
    fetch: Pin<Box<dyn Future<Output = T> + Send>>,
    landing: Landing<K, T>,
}

impl<K: Key, T: Outcome> Future for Flying<K, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = ready!(self.fetch.as_mut().poll(cx));
        self.landing.0.land(Some(outcome));
        Poll::Ready(())
    }
}

/// Sees to it that a flight lands, also if there is no outcome.
struct Landing<K: Key, T>(Arc<Flight<K, T>>);

impl<K: Key, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        if self.0.outcome.get().is_none() {
            self.0.land(None);
        }
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

    type TestFlights = Flights<char, u32>;

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

        fn join(&self, outcome: oneshot::Receiver<u32>) -> Waiter<char, u32> {
            let started = Arc::clone(&self.started);
            let waiter = self.flights.join('k', &ROOMY, move |_| async move {
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
    async fn a_flight_goes_on_from_where_its_leader_left_it() {
        let flights = TestFlights::new();
        let (begun, has_begun) = oneshot::channel();
        let (land, outcome) = oneshot::channel();
        let mut leader = flights
            .join('k', &ROOMY, |_| async move {
                begun.send(()).unwrap();
                outcome.await.expect("the script panics on purpose")
            })
            .unwrap();
        let mut other = flights.join('k', &ROOMY, |_| async { 1 }).unwrap();
        tokio::select! {
            biased;
            landed = leader.landed() => panic!("{landed:?}"),
            begun = has_begun => begun.unwrap(),
        }
        drop(leader);
        land.send(7).unwrap();
        assert_eq!(other.landed().await, Ok(7));
    }

    #[tokio::test]
    async fn a_flight_that_panics_after_its_leader_left_is_lost() {
        let script = Script::new();
        let (land, outcome) = oneshot::channel();
        let (leader, mut other) = (script.join(outcome), script.join(oneshot::channel().1));
        drop(leader);
        drop(land);
        assert_eq!(other.landed().await, Err(Lost));
        assert_eq!(script.flights.in_flight(), 0);
    }

    #[test]
    fn a_flight_that_its_runtime_leaves_behind_is_lost() {
        let script = Script::new();
        let (_land, outcome) = oneshot::channel();
        let (leader, mut other) = (script.join(outcome), script.join(oneshot::channel().1));
        drop(leader);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        assert_eq!(runtime.unwrap().block_on(other.landed()), Err(Lost));
        assert_eq!(script.flights.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_flight_lands_even_if_all_leave() {
        let flights = TestFlights::new();
        let (land, outcome) = oneshot::channel::<u32>();
        let (stored, was_stored) = oneshot::channel();
        let waiter = flights.join('k', &ROOMY, |_| async move {
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
        let waiter = flights.join('k', &ROOMY, |interest| async move {
            interest.abandoned().await;
            ended.send(()).unwrap();
            0
        });
        assert_eq!(flights.in_flight(), 1);
        drop(waiter);
        has_ended.await.unwrap();
        let mut next = flights.join('k', &ROOMY, |_| async { 1 }).unwrap();
        assert_eq!(next.landed().await, Ok(1));
    }

    #[tokio::test]
    async fn a_flight_that_is_joined_again_is_not_abandoned() {
        let flights = TestFlights::new();
        let (land, outcome) = oneshot::channel();
        let leader = flights.join('k', &ROOMY, |interest| async move {
            tokio::select! {
                biased;
                () = interest.abandoned() => 0,
                outcome = outcome => outcome.unwrap(),
            }
        });
        // Nothing runs in between: the flight sees one waiter go and one come.
        drop(leader);
        let mut other = flights.join('k', &ROOMY, |_| async { 1 }).unwrap();
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
        let _held = (join('a').unwrap(), join('a').unwrap());
        assert_eq!(join('a').err(), Some(TooManyWaiters));
        let held = join('b').unwrap();
        assert_eq!(join('c').err(), Some(TooManyWaiters));
        drop(held);
        assert!(join('c').is_ok());
    }
}
