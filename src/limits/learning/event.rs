//! What an operator may want to read in the log about a learned quota.

/// A change in what is learned. Rates are in requests per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LearningEvent {
    /// The first 429: from now on the rate is capped.
    Capped { rate: f64 },
    /// The same ceiling was met so often that the quota is as good as known.
    Confirmed { rate: f64 },
}
