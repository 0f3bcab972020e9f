//! What came of calls of late: successes and failures in a sliding window.

use std::time::Duration;

use tokio::time::Instant;

/// In how many steps a sliding window slides.
const STEPS: usize = 10;

/// Successes and failures in a sliding window.
#[derive(Debug)]
pub(super) struct Recent {
    steps: [Tally; STEPS],
    current: usize,
    /// When the current step began.
    began: Instant,
    width: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) successes: u32,
    pub(super) failures: u32,
}

impl Recent {
    pub(super) fn new(window: Duration, now: Instant) -> Self {
        Self {
            steps: Default::default(),
            current: 0,
            began: now,
            width: window / STEPS as u32,
        }
    }

    /// The step that counts now, and nothing left of those that have passed.
    pub(super) fn now(&mut self, now: Instant) -> &mut Tally {
        for step in 0.. {
            if now < self.began + self.width {
                break;
            }
            if step == STEPS {
                // All are empty by now, however long it was.
                self.began = now;
                break;
            }
            self.began += self.width;
            self.current = (self.current + 1) % STEPS;
            self.steps[self.current] = Tally::default();
        }
        &mut self.steps[self.current]
    }

    pub(super) fn sum(&self) -> Tally {
        let add = |sum: Tally, step: &Tally| Tally {
            successes: sum.successes.saturating_add(step.successes),
            failures: sum.failures.saturating_add(step.failures),
        };
        self.steps.iter().fold(Tally::default(), add)
    }
}
