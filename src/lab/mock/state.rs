//! What the three regions of a mock share, behind one lock that is held for a
//! few instructions and never across an await.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::behaviour::MockBehaviour;
use super::counters::Counters;
use super::fault::{Fault, Outcome};
use super::windows::Windows;
use crate::region::Region;

/// Shared by the [`Mock`](super::Mock) and every connection.
#[derive(Debug)]
pub(super) struct State(Mutex<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) behaviour: MockBehaviour,
    pub(super) counters: Counters,
    dice: fastrand::Rng,
    scripts: HashMap<Region, VecDeque<Outcome>>,
    windows: Windows,
    concurrent: u64,
}

/// What chance and the script have in store for a request.
pub(super) struct Lot {
    pub(super) fault: Option<Fault>,
    pub(super) latency: Duration,
    pub(super) request_id: u128,
}

impl State {
    pub(super) fn new(behaviour: MockBehaviour) -> Self {
        Self(Mutex::new(Inner {
            dice: fastrand::Rng::with_seed(behaviour.seed),
            windows: Windows::new(behaviour.window, Instant::now()),
            behaviour,
            counters: Counters::default(),
            scripts: HashMap::new(),
            concurrent: 0,
        }))
    }

    /// Gives access to everything; a panic elsewhere spoils nothing here,
    /// since every change is complete in itself.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request until the guard is dropped, and draws its lot.
    pub(super) fn arrive(
        &self,
        region: Region,
        operation: &'static str,
        skill: Option<&str>,
    ) -> (Present<'_>, Lot) {
        let mut inner = self.lock();
        inner.concurrent += 1;
        let concurrent = inner.concurrent;
        inner.counters.arrived(region, operation, skill, concurrent);
        let lot = inner.draw(region);
        if let Some(fault) = lot.fault {
            inner.counters.struck(region, fault);
        }
        (Present(self), lot)
    }

    /// Counts the status of an answer on its way.
    pub(super) fn answered(&self, region: Region, skill: Option<&str>, status: u16) {
        self.lock().counters.answered(region, skill, status);
    }
}

impl Inner {
    /// Replaces the behaviour. The dice start anew only with a new seed.
    pub(super) fn behave(&mut self, behaviour: MockBehaviour) {
        if behaviour.seed != self.behaviour.seed {
            self.dice = fastrand::Rng::with_seed(behaviour.seed);
        }
        self.behaviour = behaviour;
    }

    pub(super) fn script(&mut self, region: Region, outcomes: impl IntoIterator<Item = Outcome>) {
        self.scripts.entry(region).or_default().extend(outcomes);
    }

    pub(super) fn admit(&mut self, region: Region, skill: &str) -> Result<(), Duration> {
        let now = Instant::now();
        self.windows.admit(region, skill, &self.behaviour, now)
    }

    /// Every request throws the same dice, so that a script or a change of
    /// rates does not shift the luck of those that follow.
    fn draw(&mut self, region: Region) -> Lot {
        let (luck, stray) = (self.dice.f64(), self.dice.f64());
        let request_id = self.dice.u128(..);
        let scripted = self.scripts.get_mut(&region).and_then(VecDeque::pop_front);
        let fault = match scripted {
            Some(Outcome::Answer) => None,
            Some(Outcome::Fault(fault)) => Some(fault),
            None => self.behaviour.faults.strike(luck),
        };
        let latency = self.behaviour.latency(stray);
        Lot {
            fault,
            latency,
            request_id,
        }
    }
}

/// A request that is being answered.
pub(super) struct Present<'a>(&'a State);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.lock().concurrent -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::Faults;
    use super::*;

    #[test]
    fn the_same_seed_meets_the_same_faults() {
        let run = |seed| {
            let faults = Faults::new([(Fault::Reset, 0.3), (Fault::Error500, 0.3)]).unwrap();
            let state = State::new(MockBehaviour {
                faults,
                seed,
                ..MockBehaviour::default()
            });
            let draw = |_| state.arrive(Region::Na, "other", None).1.fault;
            (0..50).map(draw).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn a_script_is_for_one_region_and_ends() {
        let state = State::new(MockBehaviour::default());
        state
            .lock()
            .script(Region::Eu, [Outcome::Fault(Fault::Cut), Outcome::Answer]);
        let fault = |region| state.arrive(region, "other", None).1.fault;
        assert_eq!(fault(Region::Na), None);
        assert_eq!(fault(Region::Eu), Some(Fault::Cut));
        assert_eq!((fault(Region::Eu), fault(Region::Eu)), (None, None));
    }

    #[test]
    fn the_peak_counts_only_requests_at_the_same_time() {
        let state = State::new(MockBehaviour::default());
        let arrive = || state.arrive(Region::Na, "other", None).0;
        drop((arrive(), arrive()));
        drop(arrive());
        assert_eq!(state.lock().counters.peak_concurrent, 2);
    }
}
