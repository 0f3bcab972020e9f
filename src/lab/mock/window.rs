//! Whether a window of time has room for one more request. Exact rather than
//! smooth: every accepted request is remembered until it leaves the window, so
//! that a client which keeps a quota is never refused and one which exceeds it
//! by one always is; a bucket lets through what has flowed in since. Refused
//! requests do not count. No clock of its own.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::behaviour::{MockBehaviour, WindowKind};
use crate::limits::Quota;
use crate::region::Region;

/// The requests that one quota has accepted lately.
#[derive(Debug)]
pub(crate) struct Window {
    /// Where fixed windows begin.
    origin: Instant,
    /// When requests were accepted, oldest first.
    accepted: VecDeque<Instant>,
    /// When a bucket is full again.
    full_at: Instant,
}

impl Window {
    /// Remembers nothing yet; fixed windows begin at `origin`.
    pub(crate) fn new(origin: Instant) -> Self {
        Self {
            origin,
            accepted: VecDeque::new(),
            full_at: origin,
        }
    }

    /// Returns how long to wait for room: zero when there is room now.
    ///
    /// A sliding window is half open: a request leaves it exactly `per` after
    /// it was accepted.
    fn wait(&mut self, quota: Quota, kind: WindowKind, now: Instant) -> Duration {
        let per = quota.per;
        if kind == WindowKind::Bucket {
            // One request may go as long as what is missing leaves room for it.
            let may_miss = per - per / quota.requests.get();
            return self.full_at.saturating_duration_since(now + may_miss);
        }
        let into = into_fixed(now - self.origin, per);
        let counts = |at: Instant| match kind {
            WindowKind::Fixed => now - at <= into,
            WindowKind::Sliding | WindowKind::Bucket => now - at < per,
        };
        while self.accepted.front().is_some_and(|&at| !counts(at)) {
            self.accepted.pop_front();
        }
        let limit = quota.requests.get() as usize;
        match (self.accepted.len().checked_sub(limit), kind) {
            (None, _) => Duration::ZERO,
            (Some(_), WindowKind::Fixed) => per - into,
            // The one whose leaving makes room; later ones may stay.
            (Some(surplus), _) => per - (now - self.accepted[surplus]),
        }
    }

    fn accept(&mut self, quota: Quota, kind: WindowKind, now: Instant) {
        match kind {
            WindowKind::Bucket => {
                self.full_at = self.full_at.max(now) + quota.per / quota.requests.get();
            }
            WindowKind::Sliding | WindowKind::Fixed => self.accepted.push_back(now),
        }
    }
}

/// Accepts a request under all quotas, or says how long to stay away and takes
/// nothing of any.
pub(crate) fn admit<const N: usize>(
    mut asked: [(&mut Window, Option<Quota>); N],
    kind: WindowKind,
    now: Instant,
) -> Result<(), Duration> {
    let wait = |(window, quota): &mut (&mut Window, Option<Quota>)| {
        quota.map(|quota| window.wait(quota, kind, now))
    };
    match asked.iter_mut().filter_map(wait).max() {
        Some(wait) if !wait.is_zero() => Err(wait),
        _ => {
            for (window, quota) in asked {
                if let Some(quota) = quota {
                    window.accept(quota, kind, now);
                }
            }
            Ok(())
        }
    }
}

/// Returns how much of the current fixed window has passed.
fn into_fixed(elapsed: Duration, per: Duration) -> Duration {
    let nanos = elapsed.as_nanos() % per.as_nanos();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The windows of every region and of every skill in it.
#[derive(Debug)]
pub(super) struct Windows {
    origin: Instant,
    regions: HashMap<Region, Window>,
    skills: HashMap<(Region, String), Window>,
}

impl Windows {
    /// Remembers nothing yet; fixed windows begin at `origin`.
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            regions: HashMap::new(),
            skills: HashMap::new(),
        }
    }

    /// Accepts a request under both quotas, or says how long to stay away.
    pub(super) fn admit(
        &mut self,
        region: Region,
        skill: &str,
        behaviour: &MockBehaviour,
        now: Instant,
    ) -> Result<(), Duration> {
        let new = || Window::new(self.origin);
        let of_region = self.regions.entry(region).or_insert_with(new);
        let of_skill = self.skills.entry((region, skill.to_owned()));
        let of_skill = of_skill.or_insert_with(new);
        let asked = [
            (of_region, behaviour.region_quota),
            (of_skill, behaviour.skill_quota),
        ];
        admit(asked, behaviour.window, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kind: WindowKind) -> impl FnMut(u64) -> Result<(), Duration> {
        let origin = Instant::now();
        let mut windows = Windows::new(origin);
        let behaviour = MockBehaviour {
            skill_quota: Some("2/1s".parse().unwrap()),
            window: kind,
            ..MockBehaviour::default()
        };
        move |millis| {
            let now = origin + Duration::from_millis(millis);
            windows.admit(Region::Eu, "skill", &behaviour, now)
        }
    }

    #[test]
    fn a_sliding_window_has_room_exactly_when_its_oldest_request_leaves() {
        let mut at = window(WindowKind::Sliding);
        assert_eq!(at(0), Ok(()));
        assert_eq!(at(600), Ok(()));
        assert_eq!(at(999), Err(Duration::from_millis(1)));
        assert_eq!(at(1000), Ok(()));
        assert_eq!(at(1599), Err(Duration::from_millis(1)));
        assert_eq!(at(1600), Ok(()));
    }

    #[test]
    fn refused_requests_do_not_count() {
        let mut at = window(WindowKind::Sliding);
        assert_eq!((at(0), at(0)), (Ok(()), Ok(())));
        for millis in 1..1000 {
            assert!(at(millis).is_err());
        }
        assert_eq!((at(1000), at(1000)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_fixed_window_forgets_everything_at_its_border() {
        let mut at = window(WindowKind::Fixed);
        assert_eq!((at(900), at(950)), (Ok(()), Ok(())));
        assert_eq!(at(999), Err(Duration::from_millis(1)));
        assert_eq!((at(1000), at(1000)), (Ok(()), Ok(())));
        assert_eq!(at(1400), Err(Duration::from_millis(600)));
    }

    #[test]
    fn a_bucket_is_filled_evenly_and_holds_no_more_than_the_quota() {
        let mut at = window(WindowKind::Bucket);
        assert_eq!((at(0), at(0)), (Ok(()), Ok(())));
        assert_eq!(at(0), Err(Duration::from_millis(500)));
        assert_eq!(at(499), Err(Duration::from_millis(1)));
        assert_eq!(at(500), Ok(()));
        assert_eq!(at(999), Err(Duration::from_millis(1)));
        assert_eq!((at(9000), at(9000)), (Ok(()), Ok(())));
        assert_eq!(at(9000), Err(Duration::from_millis(500)));
    }

    #[test]
    fn a_request_that_one_quota_refuses_takes_nothing_of_the_other() {
        let now = Instant::now();
        let mut windows = Windows::new(now);
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
}
