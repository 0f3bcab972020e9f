//! The configuration of calls to Alexa.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{breaker, budget, client, retry};

/// Validated values. A reload replaces all but [`Policy::client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How connections are made and kept.
    pub client: client::Policy,
    /// Limits of a response that is read whole.
    pub fetch: FetchPolicy,
    /// Limits of a call that is streamed.
    pub relay: RelayPolicy,
    /// When a call is attempted again.
    pub retry: retry::Policy,
    /// How many retries a region may have.
    pub budget: budget::Policy,
    /// When calls to a region fail fast.
    pub breaker: breaker::Policy,
}

/// Limits of a response that is read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPolicy {
    /// The longest time one attempt may take, the body included.
    pub answer_timeout: Duration,
    /// The largest response body.
    pub max_answer_bytes: usize,
}

/// Limits of a call that is streamed; `[passthrough]` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayPolicy {
    /// The longest wait for the response head, counted from the last piece of the
    /// request body.
    #[serde(with = "crate::duration")]
    pub answer_timeout: Duration,
    /// The longest pause within a body, in either direction.
    #[serde(with = "crate::duration")]
    pub body_idle_timeout: Duration,
}
