//! Quotas, permits and the queue in front of them.

use std::num::NonZeroU32;
use std::time::Duration;

/// At most `requests` in any window of length `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many requests one window may hold.
    pub requests: NonZeroU32,
    /// The length of the window; more than zero.
    pub per: Duration,
}
