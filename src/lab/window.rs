//! How Alexa counts requests against a quota: the one model that the mock, the
//! simulation and the proofs of `limits` share.
//!
//! The model is exact. Every accepted request counts until it leaves the window, so
//! a client that keeps the quota is never refused, and a client that exceeds it by
//! one request always is. Refused requests do not count. The caller passes the time.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::names::UnknownName;
use crate::limits::Quota;

/// Which requests count together.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "lowercase")]
#[strum(
    serialize_all = "lowercase",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<WindowKind>
)]
pub enum WindowKind {
    /// Those of any span as long as the window.
    #[default]
    Sliding,
    /// Those between two borders: windows follow each other without a gap.
    Fixed,
    /// None: each request takes a token out of a bucket that is refilled evenly. The
    /// bucket holds the quota's `burst`, or else all its `requests`. After a pause, a
    /// span as long as the window can see a full bucket and what flows in meanwhile.
    Bucket,
}

/// The requests that one quota has accepted lately. The quota may change between
/// calls; what has been accepted stays.
#[derive(Debug)]
pub enum QuotaWindow {
    /// See [`WindowKind::Sliding`].
    Sliding {
        /// When requests were accepted, oldest first.
        accepted: VecDeque<Instant>,
    },
    /// See [`WindowKind::Fixed`].
    Fixed {
        /// A border between two windows.
        origin: Instant,
        /// When requests were accepted, oldest first.
        accepted: VecDeque<Instant>,
    },
    /// See [`WindowKind::Bucket`].
    Bucket {
        /// When the bucket is full again.
        full_at: Instant,
    },
}

/// One of the quotas that [`admit_all`] holds a request against.
#[derive(Debug)]
pub struct QuotaCheck<'a> {
    /// What the quota has accepted.
    pub window: &'a mut QuotaWindow,
    /// The quota as it is now; `None` accepts everything and counts nothing.
    pub quota: Option<Quota>,
}

impl QuotaWindow {
    /// Creates an empty window, or a full bucket. Fixed windows begin at `origin`.
    #[must_use]
    pub fn new(kind: WindowKind, origin: Instant) -> Self {
        let accepted = VecDeque::new();
        match kind {
            WindowKind::Sliding => Self::Sliding { accepted },
            WindowKind::Fixed => Self::Fixed { origin, accepted },
            WindowKind::Bucket => Self::Bucket { full_at: origin },
        }
    }

    /// Accepts a request that arrives at `now`, or refuses it.
    ///
    /// # Errors
    ///
    /// The error is how long until there is room for one request.
    pub fn admit(&mut self, quota: Quota, now: Instant) -> Result<(), Duration> {
        let quota = Some(quota);
        admit_all(
            [QuotaCheck {
                window: self,
                quota,
            }],
            now,
        )
    }

    /// Returns how long until there is room for one request; zero if there is now.
    fn wait(&mut self, quota: Quota, now: Instant) -> Duration {
        let limit = quota.requests.get() as usize;
        match self {
            Self::Sliding { accepted } => {
                // Half open: a request leaves the window exactly `per` after it came.
                forget(accepted, |at| now - at >= quota.per);
                // After the quota has shrunk, more than one may have to leave.
                accepted
                    .len()
                    .checked_sub(limit)
                    .map_or(Duration::ZERO, |surplus| {
                        quota.per - (now - accepted[surplus])
                    })
            }
            Self::Fixed { origin, accepted } => {
                let elapsed = since_border(now - *origin, quota.per);
                forget(accepted, |at| now - at > elapsed);
                if accepted.len() < limit {
                    Duration::ZERO
                } else {
                    quota.per - elapsed
                }
            }
            Self::Bucket { full_at } => {
                let capacity = quota.burst.unwrap_or(quota.requests);
                let last_token = token_interval(quota) * (capacity.get() - 1);
                full_at.saturating_duration_since(now + last_token)
            }
        }
    }

    fn accept(&mut self, quota: Quota, now: Instant) {
        match self {
            Self::Sliding { accepted } | Self::Fixed { accepted, .. } => accepted.push_back(now),
            Self::Bucket { full_at } => *full_at = (*full_at).max(now) + token_interval(quota),
        }
    }
}

/// Accepts a request under every quota, or refuses it and counts it under none.
///
/// # Errors
///
/// The error is how long until every quota has room for one request.
pub fn admit_all<const N: usize>(
    mut checks: [QuotaCheck<'_>; N],
    now: Instant,
) -> Result<(), Duration> {
    let waits = checks.iter_mut().filter_map(|check| {
        let quota = check.quota?;
        Some(check.window.wait(quota, now))
    });
    let longest = waits.max().unwrap_or_default();
    if !longest.is_zero() {
        return Err(longest);
    }
    for QuotaCheck { window, quota } in checks {
        if let Some(quota) = quota {
            window.accept(quota, now);
        }
    }
    Ok(())
}

fn forget(accepted: &mut VecDeque<Instant>, left: impl Fn(Instant) -> bool) {
    while accepted.front().is_some_and(|&at| left(at)) {
        accepted.pop_front();
    }
}

/// Returns how much of the current fixed window has passed.
fn since_border(since_origin: Duration, per: Duration) -> Duration {
    let nanos = since_origin.as_nanos() % per.as_nanos();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn token_interval(quota: Quota) -> Duration {
    quota.per / quota.requests.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn refused_for(wait: u64) -> Result<(), Duration> {
        Err(millis(wait))
    }

    /// A window under a quota of two requests a second, asked at a millisecond.
    fn two_a_second(kind: WindowKind) -> impl FnMut(u64) -> Result<(), Duration> {
        let origin = Instant::now();
        let mut window = QuotaWindow::new(kind, origin);
        let quota = "2/1s".parse().unwrap();
        move |at| window.admit(quota, origin + millis(at))
    }

    #[test]
    fn a_sliding_window_has_room_exactly_when_its_oldest_request_leaves() {
        let mut at = two_a_second(WindowKind::Sliding);
        assert_eq!(at(0), Ok(()));
        assert_eq!(at(600), Ok(()));
        assert_eq!(at(999), refused_for(1));
        assert_eq!(at(1000), Ok(()));
        assert_eq!(at(1599), refused_for(1));
        assert_eq!(at(1600), Ok(()));
    }

    #[test]
    fn refused_requests_do_not_count() {
        let mut at = two_a_second(WindowKind::Sliding);
        assert_eq!((at(0), at(0)), (Ok(()), Ok(())));
        for millis in 1..1000 {
            assert!(at(millis).is_err());
        }
        assert_eq!((at(1000), at(1000)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_fixed_window_forgets_everything_at_its_border() {
        let mut at = two_a_second(WindowKind::Fixed);
        assert_eq!((at(900), at(950)), (Ok(()), Ok(())));
        assert_eq!(at(999), refused_for(1));
        assert_eq!((at(1000), at(1000)), (Ok(()), Ok(())));
        assert_eq!(at(1400), refused_for(600));
    }

    #[test]
    fn a_bucket_is_filled_evenly_and_holds_no_more_than_the_quota() {
        let mut at = two_a_second(WindowKind::Bucket);
        assert_eq!((at(0), at(0)), (Ok(()), Ok(())));
        assert_eq!(at(0), refused_for(500));
        assert_eq!(at(499), refused_for(1));
        assert_eq!(at(500), Ok(()));
        assert_eq!(at(999), refused_for(1));
        assert_eq!((at(9000), at(9000)), (Ok(()), Ok(())));
        assert_eq!(at(9000), refused_for(500));
    }

    #[test]
    fn a_bucket_holds_the_burst_of_its_quota() {
        let now = Instant::now();
        let quota = Quota {
            burst: 3.try_into().ok(),
            .."10/1s".parse().unwrap()
        };
        let mut bucket = QuotaWindow::new(WindowKind::Bucket, now);
        let mut at = |at| bucket.admit(quota, now + millis(at));
        assert_eq!((at(0), at(0), at(0)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(at(0), refused_for(100));
        assert_eq!((at(100), at(100)), (Ok(()), refused_for(100)));
    }

    #[test]
    fn a_quota_that_shrinks_counts_what_was_accepted_before() {
        let now = Instant::now();
        let [two, one] = ["2/1s", "1/1s"].map(|quota| quota.parse().unwrap());
        let mut window = QuotaWindow::new(WindowKind::Sliding, now);
        assert_eq!(window.admit(two, now), Ok(()));
        assert_eq!(window.admit(two, now + millis(300)), Ok(()));
        // Both have to leave.
        assert_eq!(window.admit(one, now + millis(400)), refused_for(900));
    }

    #[test]
    fn a_request_that_one_quota_refuses_counts_under_no_other() {
        let now = Instant::now();
        let window = || QuotaWindow::new(WindowKind::Sliding, now);
        let admit = |narrow: &mut QuotaWindow, wide: &mut QuotaWindow| {
            let checks = [(narrow, "1/1s"), (wide, "2/1s")].map(|(window, quota)| QuotaCheck {
                window,
                quota: Some(quota.parse().unwrap()),
            });
            admit_all(checks, now).is_ok()
        };
        let mut wide = window();
        let mut first = window();
        assert!(admit(&mut first, &mut wide));
        assert!(!admit(&mut first, &mut wide));
        assert!(admit(&mut window(), &mut wide));
        assert!(!admit(&mut window(), &mut wide));
    }
}
