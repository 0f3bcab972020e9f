//! The right to make one attempt, as plain data.

use tokio::time::Instant;

use super::key::TenantId;
use crate::limits::feedback::Feedback;

/// One slot of each quota that applies to a tenant. Every grant has to be ended by
/// [`Queue::end`](super::Queue::end), or its slots are lost.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Grant {
    pub(super) tenant: TenantId,
    /// Whether the tenant's learned rate was saturated when this was granted.
    pub(super) saturated: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AttemptEnd {
    /// It was not sent.
    Unsent,
    /// It was sent, and got a response if there is feedback.
    Sent {
        at: Instant,
        feedback: Option<Feedback>,
    },
}
