//! When a request may pass a limit.

use tokio::time::Instant;

/// When the next request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Now,
    /// Not before this time.
    At(Instant),
    /// After a response that is still outstanding, at an unknown time.
    AfterResponse,
}

impl Readiness {
    /// When a request may pass both limits.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, other) => other,
            (own, Self::Now) => own,
            (Self::At(own), Self::At(other)) => Self::At(own.max(other)),
            _ => Self::AfterResponse,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn two_limits_are_ready_when_the_later_one_is() {
        let soon = Instant::now();
        let (soon, later) = (
            Readiness::At(soon),
            Readiness::At(soon + Duration::from_millis(1)),
        );
        assert_eq!(soon.and(later), later);
        assert_eq!(Readiness::Now.and(later), later);
        let unknown = Readiness::AfterResponse;
        assert_eq!(later.and(unknown), unknown);
        assert_eq!(Readiness::Now.and(Readiness::Now), Readiness::Now);
    }
}
