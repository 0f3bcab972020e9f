//! One tenant of a lane: a skill, or all requests that name none.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::adaptive::Belief;
use super::estimate::Estimate;
use super::gate::{Gate, Turn};
use super::lane::Permit;
use super::share::{Rank, Stake};
use super::{Priority, Refusal};
use crate::token::SkillId;

/// Whose quota a request counts against: a skill's, or the one that all requests
/// without a skill share.
pub(super) type TenantKey = Option<SkillId>;

/// What is known of one tenant, and who waits for it.
pub(super) struct Tenant {
    pub(super) key: TenantKey,
    /// Its configured quota.
    pub(super) configured: Gate,
    /// The quota that is believed in, and why.
    pub(super) learned: Gate,
    pub(super) belief: Belief,
    /// Its part in the region.
    pub(super) stake: Stake,
    pub(super) waiting: Waiting,
    /// The virtual time at which its next request is due.
    pub(super) tag: u64,
    pub(super) standing: Standing,
    /// When a request of it went last.
    pub(super) used_at: Option<Instant>,
    /// By how much those who waited were served later than they were told, for
    /// answers come when they come and others come in between.
    pub(super) lateness: Estimate,
}

/// Where a tenant is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody waits, or all wait for an answer whose time is not known.
    Unlisted,
    /// Among those who go as soon as the region lets them: before whom, and when.
    Ready(Rank, u64),
    /// Among those whose own gates open at this moment.
    Blocked(Instant),
}

/// One request that waits.
pub(super) struct Waiter {
    pub(super) seq: u64,
    pub(super) priority: Priority,
    /// When it was expected to get its turn.
    pub(super) expected_at: Instant,
    pub(super) deadline: Instant,
    pub(super) grant: oneshot::Sender<Result<Permit, Refusal>>,
}

/// Those who wait: who tries again goes before who is new.
#[derive(Default)]
pub(super) struct Waiting {
    again: VecDeque<Waiter>,
    new: VecDeque<Waiter>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.again.len() + self.new.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.new.is_empty()
    }

    /// How many would be before one that enters.
    pub(super) fn ahead(&self, priority: Priority) -> usize {
        match priority {
            Priority::Retry => self.again.len(),
            Priority::New => self.len(),
        }
    }

    pub(super) fn push(&mut self, waiter: Waiter) {
        match waiter.priority {
            Priority::Retry => self.again.push_back(waiter),
            Priority::New => self.new.push_back(waiter),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<Waiter> {
        self.again.pop_front().or_else(|| self.new.pop_front())
    }

    pub(super) fn pop_last(&mut self) -> Option<Waiter> {
        self.new.pop_back().or_else(|| self.again.pop_back())
    }

    /// Takes out the one with this number; false if it is not there any more.
    pub(super) fn remove(&mut self, seq: u64) -> bool {
        [&mut self.again, &mut self.new].into_iter().any(|queue| {
            let at = queue.binary_search_by_key(&seq, |waiter| waiter.seq);
            at.is_ok_and(|at| queue.remove(at).is_some())
        })
    }
}

impl Tenant {
    pub(super) fn new(key: TenantKey, stake: Stake) -> Self {
        Self {
            key,
            configured: Gate::new(),
            learned: Gate::new(),
            belief: Belief::default(),
            stake,
            waiting: Waiting::default(),
            tag: 0,
            standing: Standing::Unlisted,
            used_at: None,
            lateness: Estimate::default(),
        }
    }

    /// When its own gates let the next request pass.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        self.configured.cool(now, drop);
        self.learned.cool(now, drop);
        let paused = self.belief.paused_until(now).map_or(Turn::Now, Turn::At);
        let learned = self.learned.turn(now);
        self.configured.turn(now).and(learned).and(paused)
    }

    /// Whether the whole of the learned rate is in use: only then does an answer
    /// say anything about it.
    pub(super) fn is_pressed(&self) -> bool {
        let slots = self
            .learned
            .quota()
            .map(|quota| quota.requests.get() as usize);
        slots.is_some_and(|slots| self.learned.used() * 10 >= slots * 9)
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_idle(&mut self, now: Instant) -> bool {
        self.is_at_rest(now) && self.belief.is_idle(now)
    }

    /// Whether nothing but a belief would be lost by forgetting it.
    pub(super) fn is_at_rest(&mut self, now: Instant) -> bool {
        self.configured.cool(now, drop);
        self.learned.cool(now, drop);
        self.waiting.is_empty()
            && self.stake.used() == 0
            && self.configured.is_idle()
            && self.learned.is_idle()
            && self.belief.paused_until(now).is_none()
    }
}
