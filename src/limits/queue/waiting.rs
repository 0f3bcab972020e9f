//! The requests of one tenant that wait.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::grant::Grant;
use crate::limits::admission::{Priority, Refusal};

/// One waiting request.
pub(super) struct WaitingRequest {
    pub(super) seq: u64,
    pub(super) priority: Priority,
    /// When it was expected to go, at the time it entered.
    pub(super) expected_at: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Result<Grant, Refusal>>,
}

/// The waiting requests in order: retries, then new requests, each by arrival.
#[derive(Default)]
pub(super) struct WaitingLine {
    retries: VecDeque<WaitingRequest>,
    new: VecDeque<WaitingRequest>,
}

impl WaitingLine {
    pub(super) fn len(&self) -> usize {
        self.retries.len() + self.new.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.retries.is_empty() && self.new.is_empty()
    }

    /// The number of requests that would go before one that enters now.
    pub(super) fn ahead(&self, priority: Priority) -> usize {
        match priority {
            Priority::Retry => self.retries.len(),
            Priority::New => self.len(),
        }
    }

    pub(super) fn push(&mut self, waiter: WaitingRequest) {
        match waiter.priority {
            Priority::Retry => self.retries.push_back(waiter),
            Priority::New => self.new.push_back(waiter),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<WaitingRequest> {
        self.retries.pop_front().or_else(|| self.new.pop_front())
    }

    pub(super) fn pop_last(&mut self) -> Option<WaitingRequest> {
        self.new.pop_back().or_else(|| self.retries.pop_back())
    }

    /// Removes the request with this sequence number. Returns false if it has gone.
    pub(super) fn remove(&mut self, seq: u64) -> bool {
        [&mut self.retries, &mut self.new]
            .into_iter()
            .any(|waiters| {
                let at = waiters.binary_search_by_key(&seq, |waiter| waiter.seq);
                at.is_ok_and(|at| waiters.remove(at).is_some())
            })
    }
}
