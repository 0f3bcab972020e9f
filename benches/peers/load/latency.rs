//! Latencies of calls, recorded from any task.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Latencies of a load in progress. Clones record into the same histogram.
#[derive(Clone)]
pub(crate) struct Latencies(Arc<Mutex<Histogram<u64>>>);

impl Latencies {
    pub(crate) fn new() -> anyhow::Result<Self> {
        // Up to a minute, longer than any call may take.
        let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self(Arc::new(Mutex::new(histogram))))
    }

    pub(crate) fn record(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mut histogram = self.0.lock();
        histogram.saturating_record(nanoseconds);
    }

    pub(crate) fn finish(self, lasted: Duration) -> LoadResult {
        let latency = self.0.lock().clone();
        LoadResult { latency, lasted }
    }
}

/// What the callers of a load saw.
pub(crate) struct LoadResult {
    /// From when a call was due or sent to its whole response, in nanoseconds.
    latency: Histogram<u64>,
    /// From the first call to the last response.
    pub(crate) lasted: Duration,
}

impl LoadResult {
    /// The number of calls.
    pub(crate) fn calls(&self) -> u64 {
        self.latency.len()
    }

    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls() as f64 / self.lasted.as_secs_f64()
    }

    /// A quantile of the latency, in microseconds.
    pub(crate) fn within(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e3
    }
}
