//! The result of routing a request.

use std::sync::Arc;

use http::uri::PathAndQuery;

use super::evidence::Decider;
use super::path::{self, BadPath};
use super::rule::Rule;
use crate::region::Region;

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// The region.
    pub region: Region,
    /// The evidence that decided the region.
    pub decider: Decider,
    /// The region of the token's `aud`, if it is another one.
    pub contradicts_audience: Option<Region>,
    /// Path and query to send, without the region prefix: in canonical form if a rule
    /// matches, otherwise as received.
    pub target: PathAndQuery,
    /// The rule whose template matches the path.
    pub rule: Option<Arc<Rule>>,
}

impl Route {
    /// The path for logs: the rule's template, or the path without any segment that
    /// could be an id.
    #[must_use]
    pub fn label(&self) -> Arc<str> {
        match &self.rule {
            Some(rule) => rule.template.shared(),
            None => path::redact(self.target.path()).into(),
        }
    }
}

/// Why a request cannot be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// This evidence names a host that is not a region's.
    #[error("{0} names no Alexa region")]
    Misdirected(&'static str),
    /// The path is not accepted.
    #[error(transparent)]
    BadPath(#[from] BadPath),
}
