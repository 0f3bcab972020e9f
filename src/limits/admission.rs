//! The vocabulary of admission: how a request enters the queue, and why it is
//! refused.

use std::time::Duration;

use strum::IntoStaticStr;

/// Where a request enters the queue of its skill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// At the end.
    New,
    /// Before all new requests, since it has waited longer and has less time left.
    Retry,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// The region's quota.
    Region,
    /// The skill's quota, configured or learned, or a pause after a 429.
    Skill,
    /// Room in the queue, which is full.
    Queue,
}

impl Scope {
    /// The word for messages, logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// A request is not admitted, because it would wait too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The expected wait.
    pub wait: Duration,
    /// What it would wait for longest.
    pub scope: Scope,
}
