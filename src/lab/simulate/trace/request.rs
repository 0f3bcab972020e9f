//! One request of a trace, and what it may be for.

use std::time::Duration;

use http::Method;

use crate::region::Region;

/// The operations of a drawn turn, in the order in which services call them.
pub const OPERATIONS: [&str; 7] = [
    "/v2/persons/~current/profile/name",
    "/v2/persons/~current/profile/givenName",
    "/v2/persons/~current/profile/mobileNumber",
    "/v2/accounts/~current/settings/Profile.name",
    "/v2/accounts/~current/settings/Profile.givenName",
    "/v2/accounts/~current/settings/Profile.email",
    "/v2/accounts/~current/settings/Profile.mobileNumber",
];

/// One request. Skill and target are indices into the trace's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// When it is sent, from the start of the trace.
    pub at: Duration,
    /// Requests of one skill and turn carry the same token.
    pub turn: u32,
    /// An index into [`Trace::skills`](super::Trace::skills).
    pub skill: u32,
    /// An index into [`Trace::targets`](super::Trace::targets).
    pub target: u32,
    /// The caller's stated time-out in milliseconds; 0 if it states none.
    pub timeout_ms: u32,
    /// The region whose endpoint the skill names.
    pub region: Region,
    /// Whether the caller refuses stored responses.
    pub no_cache: bool,
}

/// A method and a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The method.
    pub method: Method,
    /// The path, without placeholders.
    pub path: String,
}

impl Target {
    /// A GET of this path.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
        }
    }
}
