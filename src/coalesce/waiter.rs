//! One request's place in a flight.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::registry::{FlightState, Key, Outcome, Policy, Registry, TooManyWaiters};

/// One request's place in a flight. Dropping it leaves the flight.
pub struct Waiter<K: Key, T> {
    flight: Arc<FlightState<K, T>>,
    collapsed: bool,
}

/// Why a waiter has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLanded {
    /// The flight panicked, or its task was aborted.
    #[error("the call ended unexpectedly")]
    Lost,
    /// The waiter's own deadline passed; the flight goes on.
    #[error("the call did not end in time")]
    DeadlinePassed,
}

impl<K: Key, T: Outcome> Waiter<K, T> {
    pub(super) fn enter(
        registry: &Arc<Registry<K, T>>,
        key: K,
        deadline: Instant,
        limits: &Policy,
    ) -> Result<Self, TooManyWaiters> {
        let (flight, collapsed) = registry.enter(key, deadline, limits)?;
        Ok(Self { flight, collapsed })
    }

    pub(super) fn flight(&self) -> &Arc<FlightState<K, T>> {
        &self.flight
    }

    /// Whether the flight had been started by another request.
    #[must_use]
    pub fn collapsed(&self) -> bool {
        self.collapsed
    }

    /// Waits until the flight lands, or until `deadline` if that is earlier than the
    /// flight's own: at the same deadline the flight ends first, because it knows
    /// what was late. Cancel safe; may be called again.
    ///
    /// # Errors
    /// See [`NotLanded`].
    pub async fn landed_by(&self, deadline: Instant) -> Result<T, NotLanded> {
        if deadline < self.flight.deadline {
            let landed = timeout_at(deadline, self.landed()).await;
            landed.unwrap_or(Err(NotLanded::DeadlinePassed))
        } else {
            self.landed().await
        }
    }

    async fn landed(&self) -> Result<T, NotLanded> {
        // Registered before the check, so that no notification falls in between.
        let landed = self.flight.landed.notified();
        if self.flight.outcome.get().is_none() {
            landed.await;
        }
        let outcome = self.flight.outcome.get().cloned().flatten();
        outcome.ok_or(NotLanded::Lost)
    }
}

impl<K: Key, T> Drop for Waiter<K, T> {
    fn drop(&mut self) {
        self.flight.leave();
    }
}
