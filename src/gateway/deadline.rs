//! When a request must have its response.

use std::time::Duration;

use tokio::time::Instant;

use super::policy::DeadlinePolicy;

/// The deadline of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadline {
    /// The caller waits until then at the latest.
    pub(super) latest: Instant,
    /// When a request without a time-out of its own would have ended. A flight lasts
    /// at least until then, because others may join it.
    pub(super) usual: Instant,
    /// Whether the caller asked for [`latest`](Self::latest).
    pub(super) is_explicit: bool,
}

impl Deadline {
    /// The deadline of a request received at `received` whose caller asks for
    /// `timeout`, which is capped.
    pub(super) fn of(
        timeout: Option<Duration>,
        received: Instant,
        policy: &DeadlinePolicy,
    ) -> Self {
        let usual = received + policy.default;
        Self {
            latest: timeout.map_or(usual, |timeout| received + timeout.min(policy.max)),
            usual,
            is_explicit: timeout.is_some(),
        }
    }

    /// The deadline as a time-out of the caller, if it asked for one.
    pub(super) fn explicit(&self) -> Option<Instant> {
        self.is_explicit.then_some(self.latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: DeadlinePolicy = DeadlinePolicy {
        default: Duration::from_millis(2500),
        max: Duration::from_secs(8),
    };

    #[test]
    fn a_caller_may_ask_for_less_or_more_but_not_for_more_than_the_maximum() {
        let received = Instant::now();
        let millis = |of: Option<u64>| {
            let deadline = Deadline::of(of.map(Duration::from_millis), received, &POLICY);
            assert_eq!(deadline.explicit().is_some(), of.is_some());
            (deadline.latest - received).as_millis()
        };
        assert_eq!(millis(None), 2500);
        assert_eq!(millis(Some(300)), 300);
        assert_eq!(millis(Some(5000)), 5000);
        assert_eq!(millis(Some(60_000)), 8000);
    }
}
