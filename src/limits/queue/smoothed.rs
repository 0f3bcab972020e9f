//! A duration that varies: its smoothed mean and deviation, by RFC 6298 §2.

use std::time::Duration;

/// Zero before the first sample.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SmoothedDuration {
    mean: Option<Duration>,
    deviation: Duration,
}

impl SmoothedDuration {
    /// Adds a sample.
    pub(super) fn note(&mut self, sample: Duration) {
        let mean = self.mean.unwrap_or(sample);
        self.deviation = (self.deviation * 3 + mean.abs_diff(sample)) / 4;
        self.mean = Some((mean * 7 + sample) / 8);
    }

    pub(super) fn mean(&self) -> Duration {
        self.mean.unwrap_or_default()
    }

    /// Two mean deviations above the mean: about the 95th percentile of a normal
    /// distribution.
    pub(super) fn likely_max(&self) -> Duration {
        self.mean() + self.deviation * 2
    }

    /// Four mean deviations above the mean: the retransmission time-out of RFC 6298,
    /// which few samples exceed.
    pub(super) fn upper_bound(&self) -> Duration {
        self.mean() + self.deviation * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn bounds_widen_with_the_deviation() {
        let mut steady = SmoothedDuration::default();
        let mut unsteady = SmoothedDuration::default();
        assert_eq!(steady.upper_bound(), Duration::ZERO);
        for n in 0..100 {
            steady.note(60 * MS);
            unsteady.note(if n % 2 == 0 { 20 * MS } else { 100 * MS });
        }
        assert!(steady.upper_bound() < 61 * MS, "{steady:?}");
        assert!(
            (40 * MS..80 * MS).contains(&unsteady.mean()),
            "{unsteady:?}"
        );
        assert!(unsteady.likely_max() > 100 * MS, "{unsteady:?}");
    }
}
