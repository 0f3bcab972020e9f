//! A quota as people say it: so many requests in so much time.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// At most `requests` in any window of length `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// How many requests one window may hold.
    pub requests: NonZeroU32,
    /// The length of the window; more than zero.
    #[serde(with = "crate::config::duration")]
    pub per: Duration,
}
