//! The rate that upstream accepted within the last second.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The times of recent responses other than 429.
#[derive(Debug, Default)]
pub(super) struct RecentResponses {
    times: VecDeque<Instant>,
}

impl RecentResponses {
    pub(super) fn note(&mut self, now: Instant) {
        self.forget_old(now);
        if self.times.len() == MAX_REMEMBERED {
            self.times.pop_front();
        }
        self.times.push_back(now);
    }

    /// The number of responses in the last second; extrapolated from their spacing
    /// if more came than are remembered.
    pub(super) fn per_second(&mut self, now: Instant) -> f64 {
        self.forget_old(now);
        #[expect(clippy::cast_precision_loss, reason = "at most MAX_REMEMBERED")]
        let count = self.times.len() as f64;
        match self.times.front() {
            Some(&first) if self.times.len() == MAX_REMEMBERED => {
                count / (now - first).as_secs_f64().max(1e-3)
            }
            _ => count,
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while self.times.front().is_some_and(|at| *at + SECOND <= now) {
            self.times.pop_front();
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// 256 responses tell a rate of hundreds per second within a few per cent.
const MAX_REMEMBERED: usize = 256;
