//! A span of time as it was of late: a mean and its spread, smoothed as RFC 6298
//! §2 smooths round trips.

use std::time::Duration;

/// Follows its samples; zero until the first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    mean: Option<Duration>,
    deviation: Duration,
}

impl Estimate {
    /// Takes one more sample into account.
    pub(super) fn note(&mut self, sample: Duration) {
        let mean = self.mean.unwrap_or(sample);
        self.deviation = (self.deviation * 3 + mean.abs_diff(sample)) / 4;
        self.mean = Some((mean * 7 + sample) / 8);
    }

    /// How long it takes.
    pub(super) fn mean(&self) -> Duration {
        self.mean.unwrap_or_default()
    }

    /// How long it usually takes at most. Two mean deviations above the mean is
    /// about the 95th percentile of a normal distribution.
    pub(super) fn usual(&self) -> Duration {
        self.mean() + self.deviation * 2
    }

    /// How long it takes at most, but for the odd exception: the time-out that RFC
    /// 6298 derives.
    pub(super) fn at_most(&self) -> Duration {
        self.mean() + self.deviation * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn steady_samples_need_little_room_and_unsteady_ones_more() {
        let (mut steady, mut unsteady) = (Estimate::default(), Estimate::default());
        assert_eq!(steady.at_most(), Duration::ZERO);
        for n in 0..100 {
            steady.note(60 * MS);
            unsteady.note(if n % 2 == 0 { 20 * MS } else { 100 * MS });
        }
        assert!(steady.at_most() < 61 * MS, "{steady:?}");
        assert!(
            (40 * MS..80 * MS).contains(&unsteady.mean()),
            "{unsteady:?}"
        );
        assert!(unsteady.usual() > 100 * MS, "{unsteady:?}");
    }
}
