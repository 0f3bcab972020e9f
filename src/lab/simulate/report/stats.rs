//! Quantiles, ratios and the fairness index. Pure.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Creates a histogram of milliseconds with three significant digits.
pub(in crate::lab::simulate) fn histogram() -> Histogram<u32> {
    Histogram::new(3).expect("three digits are allowed")
}

/// Returns the value at a quantile of recorded milliseconds; zero if nothing is recorded.
#[must_use]
pub fn within(histogram: &Histogram<u32>, quantile: f64) -> Duration {
    Duration::from_millis(histogram.value_at_quantile(quantile))
}

/// Returns Jain's fairness index: 1 if all values are equal, 1/n if all but one of n
/// are zero. 1 for no values and for zeros only.
#[must_use]
pub fn jain(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    if squares > 0.0 {
        sum * sum / (count * squares)
    } else {
        1.0
    }
}

/// Returns `part / whole`, or 0 if there is no whole.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jains_index_is_one_for_equal_values_and_one_nth_for_a_single_winner() {
        assert_eq!(jain([0.5; 4]), 1.0);
        assert_eq!(jain([1.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!((jain([]), jain([0.0, 0.0])), (1.0, 1.0));
    }
}
