//! When a connection is idle, or has exceeded one of its time limits.
//!
//! Reads [`Activity`] only when a limit may have passed, and says when to check again.
//! Acts on nothing itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::activity::Activity;
use super::timeouts::Timeouts;

/// The state of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ConnState {
    /// Nothing to act on before this time.
    CheckAt(Instant),
    /// No request in flight, and none begun, for as long as the protocol allows.
    Idle,
    /// A request head has taken too long.
    HeadTimedOut,
    /// The client has accepted no bytes for too long.
    WriteTimedOut,
}

/// When [`IdleMonitor`] reports a connection as idle.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    /// This long after each request. Heads have a time limit of their own.
    Http1 { idle_after: Duration },
    /// After the idle time-out; before the first request, after that of a head.
    Http2,
}

/// Watches one connection.
pub(super) struct IdleMonitor {
    activity: Arc<Activity>,
    timeouts: Timeouts,
    protocol: Protocol,
    /// The head that is being received, numbered by the requests before it.
    head: FirstSeen<u64>,
    /// The current write stall.
    stall: FirstSeen<u32>,
    /// When writing was last seen to be stalled.
    last_stalled: Instant,
}

impl IdleMonitor {
    /// Watches a connection whose current head began at `since`.
    pub(super) fn new(
        activity: Arc<Activity>,
        timeouts: Timeouts,
        protocol: Protocol,
        since: Instant,
    ) -> Self {
        Self {
            activity,
            timeouts,
            protocol,
            head: FirstSeen::new(0, since),
            stall: FirstSeen::new(0, since),
            last_stalled: since,
        }
    }

    /// When the connection became idle: the last request had ended, and the client had
    /// accepted its response.
    pub(super) fn idle_since(&self) -> Instant {
        self.activity.last_end().max(self.last_stalled)
    }

    /// Checks the limits at `now`.
    pub(super) fn check(&mut self, now: Instant) -> ConnState {
        // First: if nothing is in flight, the rest is at least as recent.
        let in_flight = self.activity.is_in_flight();
        let requests_seen = self.activity.requests_seen();
        let bytes_received = self.activity.bytes_received();
        let stall = self.activity.write_stall();

        // A stall that begins between two checks is seen by then.
        let mut check_at = now + self.timeouts.write;
        let stall_began = self.stall.began(stall, now);
        if stall > 0 {
            self.last_stalled = now;
            let deadline = stall_began + self.timeouts.write;
            if now >= deadline {
                return ConnState::WriteTimedOut;
            }
            check_at = check_at.min(deadline);
        }
        let is_http1 = matches!(self.protocol, Protocol::Http1 { .. });
        // An HTTP/1 client may send its next head only once it has accepted the response.
        if in_flight || (is_http1 && stall > 0) {
            return ConnState::CheckAt(check_at.min(now + BUSY_INTERVAL));
        }
        let (deadline, expired) = match self.protocol {
            Protocol::Http1 { .. } if bytes_received => {
                check_at = check_at.min(now + BUSY_INTERVAL);
                let began = self.head.began(requests_seen, now);
                (began + self.timeouts.request_head, ConnState::HeadTimedOut)
            }
            Protocol::Http1 { idle_after } => (self.idle_since() + idle_after, ConnState::Idle),
            Protocol::Http2 if requests_seen == 0 => {
                (self.head.at + self.timeouts.request_head, ConnState::Idle)
            }
            Protocol::Http2 => (self.idle_since() + self.timeouts.idle, ConnState::Idle),
        };
        if now >= deadline {
            return expired;
        }
        ConnState::CheckAt(check_at.min(deadline))
    }
}

/// How often a busy connection is checked.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);

/// When a numbered event was first seen.
struct FirstSeen<N> {
    number: N,
    at: Instant,
}

impl<N: PartialEq> FirstSeen<N> {
    fn new(number: N, at: Instant) -> Self {
        Self { number, at }
    }

    /// When `number`, which is seen now, was first seen.
    fn began(&mut self, number: N, now: Instant) -> Instant {
        if self.number != number {
            *self = Self::new(number, now);
        }
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::tracked::TrackedBody;

    const SECOND: Duration = Duration::from_secs(1);
    const IDLE_AFTER: Duration = Duration::from_millis(100);
    const HTTP1: Protocol = Protocol::Http1 {
        idle_after: IDLE_AFTER,
    };

    fn monitor(protocol: Protocol) -> (Arc<Activity>, IdleMonitor) {
        let timeouts = Timeouts {
            request_head: 10 * SECOND,
            idle: 75 * SECOND,
            write: 30 * SECOND,
            drain: 10 * SECOND,
        };
        let activity = Activity::new();
        let now = Instant::now();
        let monitor = IdleMonitor::new(Arc::clone(&activity), timeouts, protocol, now);
        (activity, monitor)
    }

    /// Checks whenever a check is due, until there is a state to act on; and how long
    /// that took.
    async fn state(mut monitor: IdleMonitor) -> (ConnState, Duration) {
        let start = Instant::now();
        loop {
            match monitor.check(Instant::now()) {
                ConnState::CheckAt(at) => {
                    assert!(at > Instant::now(), "it would never sleep");
                    tokio::time::sleep_until(at).await;
                }
                state => return (state, start.elapsed()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn http_2_without_a_request_is_idle_after_the_head_timeout() {
        let (_, monitor) = monitor(Protocol::Http2);
        assert_eq!(state(monitor).await, (ConnState::Idle, 10 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_idle_during_a_long_response() {
        for (protocol, idle) in [
            (Protocol::Http2, 575 * SECOND),
            (HTTP1, 500 * SECOND + IDLE_AFTER),
        ] {
            let (activity, monitor) = monitor(protocol);
            let request = activity.begin_request();
            let state = tokio::spawn(state(monitor));
            tokio::time::sleep(500 * SECOND).await;
            assert!(!state.is_finished());
            drop(request);
            let (what, when) = state.await.unwrap();
            assert_eq!(what, ConnState::Idle);
            // While it is busy, HTTP/1 is checked once a second.
            assert!(idle <= when && when <= idle + BUSY_INTERVAL, "{when:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_in_flight_until_its_own_body_ends() {
        let (activity, monitor) = monitor(HTTP1);
        let request = activity.begin_request();
        let body = TrackedBody::new((), Some(activity.begin_part()));
        let state = tokio::spawn(state(monitor));
        drop(request);
        tokio::time::sleep(20 * SECOND).await;
        assert!(!state.is_finished());
        drop(body);
        assert_eq!(state.await.unwrap().0, ConnState::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_head_has_as_much_time_as_the_first() {
        let (activity, monitor) = monitor(Protocol::Http1 {
            idle_after: 20 * SECOND,
        });
        activity.set_bytes_received();
        drop(activity.begin_request());
        let state = tokio::spawn(state(monitor));
        tokio::time::sleep(15 * SECOND).await;
        activity.set_bytes_received();
        let (what, when) = state.await.unwrap();
        assert_eq!((what, when.as_secs()), (ConnState::HeadTimedOut, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_is_not_read_times_out_and_one_read_slowly_does_not() {
        for protocol in [Protocol::Http2, HTTP1] {
            let (activity, monitor) = monitor(protocol);
            let _request = activity.begin_request();
            let state = tokio::spawn(state(monitor));
            for stall in 1..=10 {
                activity.set_write_stall(stall);
                tokio::time::sleep(25 * SECOND).await;
                assert!(!state.is_finished());
            }
            let (what, when) = state.await.unwrap();
            assert_eq!(what, ConnState::WriteTimedOut);
            assert!(when.as_secs() <= 225 + 31, "{when:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_no_time_limit_while_a_response_is_not_accepted() {
        let (activity, monitor) = monitor(HTTP1);
        activity.set_write_stall(1);
        drop(activity.begin_request());
        activity.set_bytes_received();
        let state = tokio::spawn(state(monitor));
        tokio::time::sleep(29 * SECOND).await;
        assert!(!state.is_finished());
        activity.set_write_stall(0);
        assert_eq!(state.await.unwrap().0, ConnState::HeadTimedOut);
    }
}
