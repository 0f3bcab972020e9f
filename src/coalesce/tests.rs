use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::*;

const ROOMY: Policy = Policy {
    max_waiters_per_key: 10_000,
    max_waiters: 10_000,
};

type TestFlights = Flights<char, u32>;

/// Later than any test lasts.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Flights for one key that land when they are told to, and count their fetches.
struct Script {
    flights: TestFlights,
    fetches: Arc<AtomicUsize>,
}

impl Script {
    fn new() -> Self {
        Self {
            flights: Flights::new(),
            fetches: Arc::default(),
        }
    }

    /// Joins; a flight that this starts ends with what is sent, and panics if the
    /// sender is dropped.
    fn join(&self, outcome: oneshot::Receiver<u32>) -> Waiter<char, u32> {
        let fetches = Arc::clone(&self.fetches);
        let fetch = |_| async move {
            fetches.fetch_add(1, Ordering::SeqCst);
            outcome.await.expect("the script panics on purpose")
        };
        self.flights.join('k', far(), &ROOMY, fetch).unwrap()
    }

    fn join_only(&self) -> Waiter<char, u32> {
        self.join(oneshot::channel().1)
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn all_waiters_share_one_fetch() {
    let script = Script::new();
    let (land, outcome) = oneshot::channel();
    let mut waiters = vec![script.join(outcome)];
    waiters.extend((0..999).map(|_| script.join_only()));
    let collapsed = waiters.iter().filter(|waiter| waiter.collapsed()).count();
    assert_eq!(collapsed, 999);
    let flights = &script.flights;
    assert_eq!((flights.in_flight(), flights.waiting()), (1, 1000));
    land.send(7).unwrap();
    for waiter in &waiters {
        assert_eq!(waiter.landed_by(far()).await, Ok(7));
    }
    drop(waiters);
    assert_eq!(script.fetches(), 1);
    assert_eq!((flights.in_flight(), flights.waiting()), (0, 0));
}

#[tokio::test]
async fn the_leader_leaving_does_not_affect_the_others() {
    let script = Script::new();
    let (land, outcome) = oneshot::channel();
    let (leader, other) = (script.join(outcome), script.join_only());
    drop(leader);
    land.send(7).unwrap();
    assert_eq!(other.landed_by(far()).await, Ok(7));
    assert_eq!(script.fetches(), 1);
}

#[tokio::test]
async fn the_leader_leaving_in_the_middle_of_the_fetch_does_not_restart_it() {
    let script = Script::new();
    let (land, outcome) = oneshot::channel();
    let leader = script.join(outcome);
    let other = script.join_only();
    while script.fetches() == 0 {
        tokio::task::yield_now().await;
    }
    drop(leader);
    land.send(7).unwrap();
    assert_eq!(other.landed_by(far()).await, Ok(7));
    assert_eq!(script.fetches(), 1);
}

#[tokio::test]
async fn a_flight_lands_even_if_all_leave() {
    let flights = TestFlights::new();
    let (land, outcome) = oneshot::channel::<u32>();
    let (stored, was_stored) = oneshot::channel();
    let waiter = flights.join('k', far(), &ROOMY, |_| async move {
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
    let (leader, other) = (script.join(outcome), script.join_only());
    drop(land);
    assert_eq!(leader.landed_by(far()).await, Err(NotLanded::Lost));
    assert_eq!(other.landed_by(far()).await, Err(NotLanded::Lost));
    assert_eq!(script.flights.in_flight(), 0);
}

#[test]
fn a_flight_is_lost_when_its_runtime_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build();
    let script = Script::new();
    let (_land, outcome) = oneshot::channel();
    let first = runtime().unwrap();
    let waiter = first.block_on(async { script.join(outcome) });
    drop(first);
    let landed = runtime().unwrap().block_on(waiter.landed_by(far()));
    assert_eq!(landed, Err(NotLanded::Lost));
    assert_eq!(script.flights.in_flight(), 0);
}

#[tokio::test]
async fn the_key_is_free_before_the_outcome_is_published() {
    let script = Script::new();
    for round in 1..=100 {
        let (land, outcome) = oneshot::channel();
        let waiter = script.join(outcome);
        assert!(!waiter.collapsed());
        land.send(round).unwrap();
        assert_eq!(waiter.landed_by(far()).await, Ok(round));
    }
    assert_eq!(script.fetches(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_leaves_at_its_own_deadline_and_the_flight_goes_on() {
    let script = Script::new();
    let (land, outcome) = oneshot::channel();
    let (leader, other) = (script.join(outcome), script.join_only());
    let soon = Instant::now() + Duration::from_secs(1);
    let landed = other.landed_by(soon).await;
    assert_eq!(landed, Err(NotLanded::DeadlinePassed));
    assert_eq!(Instant::now(), soon);
    land.send(7).unwrap();
    assert_eq!(leader.landed_by(far()).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_with_the_deadline_of_the_flight_gets_the_outcome_of_the_flight() {
    let flights = TestFlights::new();
    let deadline = Instant::now() + Duration::from_secs(1);
    let fetch = |_| async move {
        sleep_until(deadline).await;
        504
    };
    let waiter = flights.join('k', deadline, &ROOMY, fetch).unwrap();
    assert_eq!(waiter.landed_by(deadline).await, Ok(504));
}

#[tokio::test]
async fn an_abandoned_flight_ends_and_cannot_be_joined() {
    let flights = TestFlights::new();
    let (ended, has_ended) = oneshot::channel();
    let abandonable = |interest: Interest<_, _>| async move {
        interest.abandoned().await;
        ended.send(()).unwrap();
        0
    };
    let waiter = flights.join('k', far(), &ROOMY, abandonable);
    assert_eq!(flights.in_flight(), 1);
    drop(waiter);
    has_ended.await.unwrap();
    let next = flights.join('k', far(), &ROOMY, |_| async { 1 }).unwrap();
    assert_eq!(next.landed_by(far()).await, Ok(1));
}

#[tokio::test]
async fn a_flight_that_is_joined_in_time_is_not_abandoned() {
    let flights = TestFlights::new();
    let (land, outcome) = oneshot::channel();
    let abandonable = |interest: Interest<_, _>| async move {
        tokio::select! {
            biased;
            () = interest.abandoned() => 0,
            outcome = outcome => outcome.unwrap(),
        }
    };
    let leader = flights.join('k', far(), &ROOMY, abandonable);
    // No await in between: the flight sees one waiter leave and one join.
    drop(leader);
    let other = flights.join('k', far(), &ROOMY, |_| async { 1 }).unwrap();
    assert!(other.collapsed());
    tokio::task::yield_now().await;
    land.send(7).unwrap();
    assert_eq!(other.landed_by(far()).await, Ok(7));
}

#[tokio::test]
async fn waiters_are_bounded_per_key_and_in_total() {
    let flights = TestFlights::new();
    let limits = Policy {
        max_waiters_per_key: 2,
        max_waiters: 3,
    };
    let join = |key| flights.join(key, far(), &limits, |_| std::future::pending());
    let _held = (join('a').unwrap(), join('a').unwrap());
    assert_eq!(join('a').err(), Some(TooManyWaiters));
    let held = join('b').unwrap();
    assert_eq!(join('c').err(), Some(TooManyWaiters));
    drop(held);
    assert!(join('c').is_ok());
}
