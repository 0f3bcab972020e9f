//! Successes and failures in a sliding window.

use std::time::Duration;

use tokio::time::Instant;

/// The number of steps in which the window slides.
const STEPS: usize = 10;

/// Successes and failures in a sliding window.
#[derive(Debug)]
pub(super) struct Recent {
    steps: [Counts; STEPS],
    current: usize,
    /// When the current step began.
    began: Instant,
    width: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
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

    /// The current step, after expired steps are cleared.
    pub(super) fn now(&mut self, now: Instant) -> &mut Counts {
        for step in 0.. {
            if now < self.began + self.width {
                break;
            }
            if step == STEPS {
                // All steps are clear, however long ago the last call was.
                self.began = now;
                break;
            }
            self.began += self.width;
            self.current = (self.current + 1) % STEPS;
            self.steps[self.current] = Counts::default();
        }
        &mut self.steps[self.current]
    }

    pub(super) fn sum(&self) -> Counts {
        let add = |sum: Counts, step: &Counts| Counts {
            successes: sum.successes.saturating_add(step.successes),
            failures: sum.failures.saturating_add(step.failures),
        };
        self.steps.iter().fold(Counts::default(), add)
    }
}
