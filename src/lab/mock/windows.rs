//! The quota windows of every region and of every skill in it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::behaviour::MockBehaviour;
use crate::lab::window::{QuotaCheck, QuotaWindow, WindowKind, admit_all};
use crate::region::Region;

/// What the quotas have accepted since the start, or since the kind of window changed.
#[derive(Debug)]
pub(super) struct Windows {
    kind: WindowKind,
    /// Where fixed windows begin.
    origin: Instant,
    regions: HashMap<Region, QuotaWindow>,
    skills: HashMap<(Region, String), QuotaWindow>,
}

impl Windows {
    pub(super) fn new(kind: WindowKind, origin: Instant) -> Self {
        Self {
            kind,
            origin,
            regions: HashMap::new(),
            skills: HashMap::new(),
        }
    }

    /// Accepts a request under both quotas, or returns how long the skill has to wait.
    pub(super) fn admit(
        &mut self,
        region: Region,
        skill: &str,
        behaviour: &MockBehaviour,
        now: Instant,
    ) -> Result<(), Duration> {
        if behaviour.window != self.kind {
            *self = Self::new(behaviour.window, self.origin);
        }
        let empty = || QuotaWindow::new(self.kind, self.origin);
        let skill = (region, skill.to_owned());
        let checks = [
            QuotaCheck {
                window: self.regions.entry(region).or_insert_with(empty),
                quota: behaviour.region_quota,
            },
            QuotaCheck {
                window: self.skills.entry(skill).or_insert_with(empty),
                quota: behaviour.skill_quota,
            },
        ];
        admit_all(checks, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_one_quota_refuses_counts_under_no_other() {
        let now = Instant::now();
        let mut windows = Windows::new(WindowKind::Sliding, now);
        let behaviour = MockBehaviour {
            skill_quota: Some("1/1s".parse().unwrap()),
            region_quota: Some("2/1s".parse().unwrap()),
            ..MockBehaviour::default()
        };
        let mut admit = |skill| windows.admit(Region::Na, skill, &behaviour, now).is_ok();
        assert!(admit("a"));
        assert!(!admit("a"));
        assert!(admit("b"));
        assert!(!admit("c"));
    }

    #[test]
    fn another_kind_of_window_starts_empty() {
        let now = Instant::now();
        let mut windows = Windows::new(WindowKind::Sliding, now);
        let mut behaviour = MockBehaviour {
            skill_quota: Some("1/1s".parse().unwrap()),
            ..MockBehaviour::default()
        };
        assert!(windows.admit(Region::Eu, "a", &behaviour, now).is_ok());
        assert!(windows.admit(Region::Eu, "a", &behaviour, now).is_err());
        behaviour.window = WindowKind::Fixed;
        assert!(windows.admit(Region::Eu, "a", &behaviour, now).is_ok());
    }
}
