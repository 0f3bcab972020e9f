//! A flight as its own task sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::registry::{FlightState, Key, Outcome};

/// Tells a flight whether anybody waits for it.
pub struct Interest<K: Key, T>(Arc<FlightState<K, T>>);

impl<K: Key, T: Outcome> Interest<K, T> {
    pub(super) fn in_flight(flight: &Arc<FlightState<K, T>>) -> Self {
        Self(Arc::clone(flight))
    }

    /// Completes when all waiters have left. From then on the flight cannot be
    /// joined, so it may end without having done anything. Cancel safe: until it
    /// completes, the flight stays joinable.
    pub async fn abandoned(&self) {
        let is_deserted = || self.0.waiting() == 0;
        loop {
            // A notification sent while nobody listens is kept.
            let deserted = self.0.deserted.notified();
            // A request may have joined since, so the check is made under the lock.
            if is_deserted() && self.0.close_if(is_deserted) {
                return;
            }
            deserted.await;
        }
    }
}

pin_project_lite::pin_project! {
    /// The task of a flight: runs the fetch and lands with its outcome.
    ///
    /// A named future rather than an async block, which would hold the fetch twice:
    /// as captured and as awaited.
    pub(super) struct Running<F, K: Key, T> {
        #[pin]
        fetch: F,
        landing: LandingGuard<K, T>,
    }
}

impl<F, K: Key, T> Running<F, K, T> {
    pub(super) fn new(fetch: F, flight: &Arc<FlightState<K, T>>) -> Self {
        let landing = LandingGuard(Arc::clone(flight));
        Self { fetch, landing }
    }
}

impl<F: Future<Output = T>, K: Key, T> Future for Running<F, K, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let outcome = ready!(this.fetch.poll(cx));
        this.landing.0.land(Some(outcome));
        Poll::Ready(())
    }
}

/// Publishes a loss when it is dropped before the flight has landed: the fetch
/// panicked, or the task was aborted with its runtime.
struct LandingGuard<K: Key, T>(Arc<FlightState<K, T>>);

impl<K: Key, T> Drop for LandingGuard<K, T> {
    fn drop(&mut self) {
        if self.0.outcome.get().is_none() {
            self.0.land(None);
        }
    }
}
