//! Requests that name one region while their token names another.
//!
//! Alexa refuses such requests, and the cause is hard to find from a 401. Each is
//! counted; a warning is logged once per skill.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::metrics::Metrics;
use crate::route::Route;
use crate::token::SkillId;

/// Counts contradictions, and remembers the skills that were warned about.
pub(super) struct Contradictions {
    metrics: Arc<Metrics>,
    warned: Mutex<HashSet<Option<SkillId>>>,
}

/// The most skills that are remembered. Further ones are counted only.
const MAX_WARNED: usize = 1000;

impl Contradictions {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            warned: Mutex::default(),
        }
    }

    /// Takes note of a route, if it contradicts the token.
    pub(super) fn note(&self, route: &Route, skill: Option<&SkillId>) {
        let Some(token_region) = route.contradicts_audience else {
            return;
        };
        self.metrics.contradiction(route.region);
        if self.is_new(skill) {
            tracing::warn!(
                skill = skill.map(SkillId::as_str),
                region = route.region.name(),
                decided_by = route.decider.label(),
                token_region = token_region.name(),
                "the request names one region and its token another; Alexa will refuse it"
            );
        }
    }

    fn is_new(&self, skill: Option<&SkillId>) -> bool {
        let mut warned = self.warned.lock();
        warned.len() < MAX_WARNED && warned.insert(skill.cloned())
    }
}
