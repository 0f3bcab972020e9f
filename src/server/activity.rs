//! Whether a connection is in use: requests are counted from their head to the
//! last byte of their answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::Patience;

/// The requests of one connection.
pub(super) struct Activity {
    opened: Instant,
    active: AtomicUsize,
    /// When the last request ended, in milliseconds since the opening.
    ended_ms: AtomicU64,
    asked: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            active: AtomicUsize::new(0),
            ended_ms: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        })
    }

    /// Counts a request until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> Active {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(self))
    }

    /// Completes when the connection has been without a request for too long. It
    /// looks when it has to, so requests do not pay for it.
    pub(super) async fn quiet(self: Arc<Self>, patience: Patience) {
        loop {
            let limit = match self.asked.load(Ordering::Relaxed) {
                0 => patience.request_head_timeout,
                _ => patience.idle_timeout,
            };
            let ended = Duration::from_millis(self.ended_ms.load(Ordering::Relaxed));
            let busy = self.active.load(Ordering::Relaxed) > 0;
            let since = if busy {
                Instant::now()
            } else {
                self.opened + ended
            };
            if since + limit <= Instant::now() {
                return;
            }
            sleep_until(since + limit).await;
        }
    }
}

/// One request in flight.
pub(super) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended_ms.store(now, Ordering::Relaxed);
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer; its request ends with it.
pub(super) struct Tracked<B> {
    body: B,
    _request: Active,
}

impl<B> Tracked<B> {
    pub(super) fn new(body: B, request: Active) -> Self {
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

    fn patience() -> Patience {
        Patience {
            request_head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::MAX,
            drain_timeout: Duration::MAX,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_asks_is_quiet_after_the_head_timeout() {
        let activity = Activity::new();
        let start = Instant::now();
        activity.quiet(patience()).await;
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_is_no_idleness() {
        let activity = Activity::new();
        let start = Instant::now();
        let request = activity.request();
        let quiet = tokio::spawn(Arc::clone(&activity).quiet(patience()));
        tokio::time::sleep(Duration::from_secs(500)).await;
        assert!(!quiet.is_finished());
        drop(request);
        quiet.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 575);
    }
}
