//! The state that the three regions of a mock share, behind one lock that is never
//! held across an await.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::behaviour::MockBehaviour;
use super::counters::Counters;
use super::fault::{Fault, ScriptStep};
use super::windows::Windows;
use crate::region::Region;

/// Shared by the [`Mock`](super::Mock) and every connection.
#[derive(Debug)]
pub(super) struct MockState(Mutex<Guarded>);

#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) behaviour: MockBehaviour,
    pub(super) counters: Counters,
    dice: fastrand::Rng,
    scripts: HashMap<Region, VecDeque<ScriptStep>>,
    windows: Windows,
    in_flight: u64,
}

/// What the script, or else chance, decides for a request.
pub(super) struct RequestPlan {
    pub(super) fault: Option<Fault>,
    pub(super) latency: Duration,
    pub(super) request_id: u128,
}

impl MockState {
    pub(super) fn new(behaviour: MockBehaviour) -> Self {
        Self(Mutex::new(Guarded {
            dice: fastrand::Rng::with_seed(behaviour.seed),
            windows: Windows::new(behaviour.window, Instant::now()),
            behaviour,
            counters: Counters::default(),
            scripts: HashMap::new(),
            in_flight: 0,
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Guarded> {
        self.0.lock()
    }

    /// Draws the plan of a request and counts it as in flight until the guard is dropped.
    pub(super) fn arrive(
        &self,
        region: Region,
        operation: &'static str,
        skill: Option<&str>,
    ) -> (InFlight<'_>, RequestPlan) {
        let mut inner = self.lock();
        inner.in_flight += 1;
        let concurrent = inner.in_flight;
        inner.counters.arrived(region, operation, skill, concurrent);
        let plan = inner.draw(region);
        if let Some(fault) = plan.fault {
            inner.counters.struck(region, fault);
        }
        (InFlight(self), plan)
    }

    /// Counts the status of a response.
    pub(super) fn answered(&self, region: Region, skill: Option<&str>, status: u16) {
        self.lock().counters.answered(region, skill, status);
    }
}

impl Guarded {
    /// Replaces the behaviour. Only a new seed restarts the random numbers.
    pub(super) fn behave(&mut self, behaviour: MockBehaviour) {
        if behaviour.seed != self.behaviour.seed {
            self.dice = fastrand::Rng::with_seed(behaviour.seed);
        }
        self.behaviour = behaviour;
    }

    pub(super) fn script(&mut self, region: Region, steps: impl IntoIterator<Item = ScriptStep>) {
        self.scripts.entry(region).or_default().extend(steps);
    }

    pub(super) fn admit(&mut self, region: Region, skill: &str) -> Result<(), Duration> {
        let now = Instant::now();
        self.windows.admit(region, skill, &self.behaviour, now)
    }

    /// Every request draws the same numbers, so that a script or a change of rates does
    /// not change the plans of later requests.
    fn draw(&mut self, region: Region) -> RequestPlan {
        let (luck, stray) = (self.dice.f64(), self.dice.f64());
        let request_id = self.dice.u128(..);
        let scripted = self.scripts.get_mut(&region).and_then(VecDeque::pop_front);
        let fault = match scripted {
            Some(ScriptStep::Normal) => None,
            Some(ScriptStep::Fault(fault)) => Some(fault),
            None => self.behaviour.faults.strike(luck),
        };
        let latency = self.behaviour.latency(stray);
        RequestPlan {
            fault,
            latency,
            request_id,
        }
    }
}

/// A request in flight.
pub(super) struct InFlight<'a>(&'a MockState);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
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
            let state = MockState::new(MockBehaviour {
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
        let state = MockState::new(MockBehaviour::default());
        state.lock().script(
            Region::Eu,
            [ScriptStep::Fault(Fault::Cut), ScriptStep::Normal],
        );
        let fault = |region| state.arrive(region, "other", None).1.fault;
        assert_eq!(fault(Region::Na), None);
        assert_eq!(fault(Region::Eu), Some(Fault::Cut));
        assert_eq!((fault(Region::Eu), fault(Region::Eu)), (None, None));
    }

    #[test]
    fn the_peak_counts_only_requests_at_the_same_time() {
        let state = MockState::new(MockBehaviour::default());
        let arrive = || state.arrive(Region::Na, "other", None).0;
        drop((arrive(), arrive()));
        drop(arrive());
        assert_eq!(state.lock().counters.peak_concurrent, 2);
    }
}
