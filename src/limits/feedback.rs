//! What a response tells about upstream's quota.

use std::time::Duration;

/// Upstream's verdict on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// Any response but a 429: the request was within the quota.
    Accepted,
    /// A 429.
    Throttled {
        /// The delay of its `Retry-After` field.
        retry_after: Option<Duration>,
    },
}
