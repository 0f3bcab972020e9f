//! What a connection is doing, seen from outside the HTTP library: whether a request
//! is in flight, a head is on its way, or an answer is not taken.
//!
//! Requests and the wire only leave notes; [`Watch`] reads them when it has to look,
//! so that no timer is touched for a request.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::Patience;

/// The notes about one connection, from when the HTTP library gets it.
pub(super) struct Activity {
    opened: Instant,
    /// What is not over of requests: their answers, and their own bodies.
    active: AtomicUsize,
    asked: AtomicU64,
    /// When something of a request was over last, in milliseconds since the opening.
    ended_ms: AtomicU64,
    /// Bytes have come since then. Between requests of HTTP/1, that is a head.
    heard: AtomicBool,
    /// Which one of the times that writing has to wait this is; 0 when it does not.
    blocked: AtomicU32,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            active: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            ended_ms: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            blocked: AtomicU32::new(0),
        })
    }

    /// Counts a request until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Active {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.more()
    }

    /// Counts one thing more that must be over before the connection is idle.
    pub(super) fn more(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(self))
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Writing waits for the other side, for the `time`th time; 0 when it no longer does.
    pub(super) fn blocked(&self, time: u32) {
        self.blocked.store(time, Ordering::Relaxed);
    }

    /// When the last request was over, or the connection was opened.
    fn ended(&self) -> Instant {
        self.opened + Duration::from_millis(self.ended_ms.load(Ordering::Relaxed))
    }
}

/// Something of a request that is not over.
pub(super) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended_ms.store(now, Ordering::Relaxed);
        self.0.heard.store(false, Ordering::Relaxed);
        // Whoever sees the count sees what was noted before it.
        self.0.active.fetch_sub(1, Ordering::Release);
    }
}

/// What a look at a connection finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that calls for action; there may be something at this time.
    Later(Instant),
    /// No request, and nothing of one, for as long as was asked for.
    Idle,
    /// A head has been on its way for too long.
    SlowHead,
    /// The other side has taken nothing of what is written for too long.
    Unread,
}

/// How long a connection may be idle before [`Watch`] says so.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    /// So long after each request; and heads have their own time-out.
    Http1(Duration),
    /// The idle time-out.
    Http2,
}

/// Looks at a connection now and then.
pub(super) struct Watch {
    activity: Arc<Activity>,
    patience: Patience,
    protocol: Protocol,
    /// The head that is on its way: how many requests were asked before, and since when.
    head: (u64, Instant),
    /// The wait of a write: which one, and since when.
    wait: (u32, Instant),
    /// When writing was last seen to wait.
    taken: Instant,
}

impl Watch {
    /// Watches a connection that has been without a whole head since `since`.
    pub(super) fn new(
        activity: Arc<Activity>,
        patience: Patience,
        protocol: Protocol,
        since: Instant,
    ) -> Self {
        Self {
            activity,
            patience,
            protocol,
            head: (0, since),
            wait: (0, since),
            taken: since,
        }
    }

    /// Since when there has been no request: the last one was over, and its answer taken.
    pub(super) fn idle_since(&self) -> Instant {
        self.activity.ended().max(self.taken)
    }

    /// Looks, and says when to look again.
    pub(super) fn look(&mut self, now: Instant) -> Found {
        let Patience {
            request_head_timeout,
            idle_timeout,
            write_timeout,
            ..
        } = self.patience;
        let active = self.activity.active.load(Ordering::Acquire) > 0;
        let asked = self.activity.asked.load(Ordering::Relaxed);
        let heard = self.activity.heard.load(Ordering::Relaxed);
        let wait = self.activity.blocked.load(Ordering::Relaxed);
        // What begins unnoticed in between is noticed by then.
        let mut next = now + write_timeout;
        let mut at = |deadline: Instant| {
            next = next.min(deadline);
            now >= deadline
        };
        if self.wait.0 != wait {
            self.wait = (wait, now);
        }
        if wait > 0 {
            self.taken = now;
        }
        if wait > 0 && at(self.wait.1 + write_timeout) {
            return Found::Unread;
        }
        match self.protocol {
            _ if active => {
                at(now + BUSY);
            }
            // Before an answer is taken, nothing else may be said.
            Protocol::Http1(_) if wait > 0 => {
                at(now + BUSY);
            }
            Protocol::Http1(_) if heard => {
                if self.head.0 != asked {
                    self.head = (asked, now);
                }
                if at(self.head.1 + request_head_timeout) {
                    return Found::SlowHead;
                }
                at(now + BUSY);
            }
            Protocol::Http1(quiet) => {
                if at(self.idle_since() + quiet) {
                    return Found::Idle;
                }
            }
            Protocol::Http2 => {
                let deadline = match asked {
                    0 => self.head.1 + request_head_timeout,
                    _ => self.idle_since() + idle_timeout,
                };
                if at(deadline) {
                    return Found::Idle;
                }
            }
        }
        Found::Later(next)
    }
}

/// How often a connection is looked at while it is busy.
const BUSY: Duration = Duration::from_secs(1);

pin_project! {
    /// A request's answer to be. The request is over with the last byte of the answer.
    pub(super) struct Answering<F> {
        #[pin]
        answer: F,
        request: Option<Active>,
    }
}

impl<F> Answering<F> {
    pub(super) fn new(answer: F, request: Active) -> Self {
        Self {
            answer,
            request: Some(request),
        }
    }
}

impl<F: Future<Output = Response<B>>, B> Future for Answering<F> {
    type Output = Result<Response<Tracked<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(cx));
        let request = this.request.take();
        Poll::Ready(Ok(answer.map(|body| Tracked::new(body, request))))
    }
}

/// A body that belongs to a request: that is not over before it.
pub(super) struct Tracked<B> {
    // Dropped in this order: the library knows of the end before it is noted.
    body: B,
    _request: Option<Active>,
}

impl<B> Tracked<B> {
    pub(super) fn new(body: B, request: Option<Active>) -> Self {
        Self {
            body,
            _request: request,
        }
    }
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const QUIET: Duration = Duration::from_millis(100);

    fn watch(protocol: Protocol) -> (Arc<Activity>, Watch) {
        let patience = Patience {
            request_head_timeout: 10 * SECOND,
            idle_timeout: 75 * SECOND,
            write_timeout: 30 * SECOND,
            drain_timeout: 10 * SECOND,
        };
        let activity = Activity::new();
        let watch = Watch::new(Arc::clone(&activity), patience, protocol, Instant::now());
        (activity, watch)
    }

    /// Looks whenever it is time to, until there is something; says when that was.
    async fn found(mut watch: Watch) -> (Found, Duration) {
        let start = Instant::now();
        loop {
            match watch.look(Instant::now()) {
                Found::Later(at) => {
                    assert!(at > Instant::now(), "it would never sleep");
                    tokio::time::sleep_until(at).await;
                }
                found => return (found, start.elapsed()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn http_2_that_never_asks_is_idle_after_the_head_timeout() {
        let (_, watch) = watch(Protocol::Http2);
        assert_eq!(found(watch).await, (Found::Idle, 10 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_is_no_idleness() {
        for (protocol, idle) in [
            (Protocol::Http2, 575 * SECOND),
            (Protocol::Http1(QUIET), 500 * SECOND + QUIET),
        ] {
            let (activity, watch) = watch(protocol);
            let request = activity.request();
            let found = tokio::spawn(found(watch));
            tokio::time::sleep(500 * SECOND).await;
            assert!(!found.is_finished());
            drop(request);
            let (what, when) = found.await.unwrap();
            assert_eq!(what, Found::Idle);
            // While it is busy, HTTP/1 is looked at once a second.
            assert!(idle <= when && when <= idle + BUSY, "{when:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_not_over_before_its_own_body() {
        let (activity, watch) = watch(Protocol::Http1(QUIET));
        let request = activity.request();
        let body = Tracked::new((), Some(activity.more()));
        let found = tokio::spawn(found(watch));
        drop(request);
        tokio::time::sleep(20 * SECOND).await;
        assert!(!found.is_finished());
        drop(body);
        assert_eq!(found.await.unwrap().0, Found::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_head_has_as_long_as_the_first() {
        let (activity, watch) = watch(Protocol::Http1(20 * SECOND));
        activity.heard();
        drop(activity.request());
        let found = tokio::spawn(found(watch));
        tokio::time::sleep(15 * SECOND).await;
        activity.heard();
        let (what, when) = found.await.unwrap();
        assert_eq!((what, when.as_secs()), (Found::SlowHead, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_noticed_and_slow_progress_is_none() {
        for protocol in [Protocol::Http2, Protocol::Http1(QUIET)] {
            let (activity, watch) = watch(protocol);
            let _request = activity.request();
            let found = tokio::spawn(found(watch));
            for time in 1..=10 {
                activity.blocked(time);
                tokio::time::sleep(25 * SECOND).await;
                assert!(!found.is_finished());
            }
            let (what, when) = found.await.unwrap();
            assert_eq!(what, Found::Unread);
            assert!(when.as_secs() <= 225 + 31, "{when:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn before_an_answer_is_taken_nothing_else_is_found() {
        let (activity, watch) = watch(Protocol::Http1(QUIET));
        activity.blocked(1);
        drop(activity.request());
        activity.heard();
        let found = tokio::spawn(found(watch));
        tokio::time::sleep(29 * SECOND).await;
        assert!(!found.is_finished());
        activity.blocked(0);
        assert_eq!(found.await.unwrap().0, Found::SlowHead);
    }
}
