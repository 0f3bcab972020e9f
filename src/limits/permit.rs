//! The right to make one call to Alexa.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::feedback::Feedback;
use super::lane::{Admission, Lane};
use super::queue::{AttemptEnd, Grant};

/// The right to make one call: a slot of each quota that applies.
///
/// Dropping it gives the slots back. They are free at once if nothing was sent,
/// otherwise one window after the drop.
pub struct Permit {
    lane: Arc<Lane>,
    grant: Grant,
    waited: Duration,
    sent_at: Option<Instant>,
    feedback: Option<Feedback>,
}

impl Permit {
    pub(super) fn new(lane: Arc<Lane>, admission: Admission) -> Self {
        Self {
            lane,
            grant: admission.grant,
            waited: admission.waited,
            sent_at: None,
            feedback: None,
        }
    }

    /// How long the request waited for this permit.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Notes that the request is handed to the network. From now on the slots cool
    /// down when the permit ends.
    pub(crate) fn sent(&mut self) {
        self.sent_at = Some(Instant::now());
    }

    /// Reverts [`Permit::sent`]: the request is known not to have left.
    pub(crate) fn not_sent(&mut self) {
        self.sent_at = None;
    }

    /// Ends the permit when the head of the response arrives.
    pub(crate) fn answered(mut self, feedback: Feedback) {
        self.feedback = Some(feedback);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let feedback = self.feedback;
        let end = match self.sent_at {
            Some(at) => AttemptEnd::Sent { at, feedback },
            None => AttemptEnd::Unsent,
        };
        self.lane.end(self.grant, end);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("sent_at", &self.sent_at)
            .finish_non_exhaustive()
    }
}
