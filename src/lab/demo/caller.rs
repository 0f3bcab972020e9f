//! What the callers of one run have seen so far.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Counts and latencies of one run. Every request ends in exactly one of the counts.
#[derive(Clone, Debug)]
pub struct CallerStats {
    /// Requests that have ended.
    pub requests: u64,
    /// 200 responses with the right value.
    pub ok: u64,
    /// 429 responses.
    pub throttled: u64,
    /// 200 responses with a value that does not belong to the token.
    pub wrong: u64,
    /// Requests that ended in any other way.
    pub failed: u64,
    /// The reason of the first failure.
    pub example: Option<String>,
    /// From when a request was due to its correct 200, in microseconds.
    latency: Histogram<u64>,
}

/// How a request ended.
pub(super) enum RequestEnd {
    Correct,
    Wrong,
    Throttled,
    Failed(String),
}

impl CallerStats {
    /// Creates the statistics of a run in which no request has ended yet.
    #[must_use]
    pub fn new() -> Self {
        // Up to a minute, far beyond the time-out of a caller.
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
        Self {
            requests: 0,
            ok: 0,
            throttled: 0,
            wrong: 0,
            failed: 0,
            example: None,
            latency,
        }
    }

    /// Returns a quantile of the latency of correct responses; zero without any.
    #[must_use]
    pub fn within(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    pub(super) fn record(&mut self, end: RequestEnd, took: Duration) {
        self.requests += 1;
        match end {
            RequestEnd::Correct => {
                self.ok += 1;
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.latency.saturating_record(micros);
            }
            RequestEnd::Throttled => self.throttled += 1,
            RequestEnd::Wrong => self.wrong += 1,
            RequestEnd::Failed(reason) => {
                self.failed += 1;
                self.example.get_or_insert(reason);
            }
        }
    }
}

impl Default for CallerStats {
    fn default() -> Self {
        Self::new()
    }
}
