//! Rules: the GETs whose responses are cached.

use super::path::PathTemplate;
use crate::cache::policy::Freshness;

/// GETs of one path template, whose responses are cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rule's name in configuration and metrics.
    pub name: String,
    /// The paths it applies to.
    pub template: PathTemplate,
    /// How long responses are fresh, and how long they may be served stale.
    pub freshness: Freshness,
}
