//! Whether a region is worth calling: closed, open, half-open.
//!
//! Closed, every call goes, and failures are counted in a row and as a share of a
//! sliding window. Open, none goes until a moment that moves out with each failed
//! probe; after it, half-open, a single call goes at a time, the probe, whose
//! success closes the circuit and whose failure opens it again. For a probe every
//! answer that is no failure is a success.
//!
//! Pure: time is passed in, and so is the draw of the dice.

mod recent;

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::upstream::retry::Outcome;
use recent::{Recent, Tally};

/// When a region is left alone, and for how long; `[breaker]` as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whether there is a breaker at all.
    pub enabled: bool,
    /// Failures in a row that open the circuit.
    pub consecutive_failures: NonZeroU32,
    /// The circuit opens when fewer attempts of the window succeed, 0 to 100.
    pub min_success_percent: u32,
    /// Attempts in the window before the share of successes counts.
    pub min_requests: NonZeroU32,
    /// The length of the sliding window.
    #[serde(with = "crate::duration")]
    pub window: Duration,
    /// Time before the first probe; it doubles with each failed one.
    #[serde(with = "crate::duration")]
    pub open: Duration,
    /// The longest time between two probes.
    #[serde(with = "crate::duration")]
    pub max_open: Duration,
}

/// What one attempt tells about the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers, whatever the answer.
    Alive,
    /// It answers, but only that a skill has asked for enough: that is neither for
    /// nor against the region, but enough for a probe.
    Throttling,
    /// It does not, or only says that it cannot.
    Failing(Outcome),
}

/// The state at one moment, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Every call goes.
    Closed,
    /// One call at a time goes, to see whether more may.
    HalfOpen,
    /// No call goes.
    Open,
}

/// Why a circuit opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// `breaker.consecutive_failures` was reached.
    InARow { failures: u32, last: Outcome },
    /// `breaker.min_success_percent` was missed.
    Share {
        successes: u32,
        attempts: u32,
        last: Outcome,
    },
}

/// A call may not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Until the next probe may go.
    pub(super) wait: Duration,
    /// Why the circuit opened.
    pub(super) reason: Reason,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was closed, and opened.
    Opened { reason: Reason, open: Duration },
    /// A probe failed.
    Reopened { open: Duration },
    /// A probe succeeded, so long after the circuit had opened.
    Closed { after: Duration },
}

/// Under which state a call began; what comes of it counts only under the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

/// The circuit of one region.
#[derive(Debug)]
pub(super) struct Circuit {
    policy: Policy,
    state: State,
    epoch: Epoch,
    since: Instant,
    last_reason: Option<Reason>,
}

#[derive(Debug)]
enum State {
    Closed { in_a_row: u32, recent: Recent },
    Open(Open),
}

#[derive(Debug)]
struct Open {
    reason: Reason,
    until: Instant,
    failed_probes: u32,
    /// Whether a probe is on its way.
    probing: bool,
}

impl Circuit {
    pub(super) fn new(policy: Policy, now: Instant) -> Self {
        Self {
            state: State::closed(&policy, now),
            policy,
            epoch: Epoch(0),
            since: now,
            last_reason: None,
        }
    }

    /// Takes on a new policy. The state stays, unless it cannot be kept: a circuit
    /// that is switched off closes, and a window of another length begins empty.
    pub(super) fn reconfigure(&mut self, policy: Policy, now: Instant) {
        let resized = policy.window != self.policy.window;
        self.policy = policy;
        match &mut self.state {
            State::Closed { recent, .. } if resized => *recent = Recent::new(policy.window, now),
            State::Open(_) if !policy.enabled => self.close(now),
            _ => {}
        }
    }

    /// Tells whether a call could go now, and lets none.
    pub(super) fn check(&self, now: Instant) -> Result<(), Held> {
        match &self.state {
            State::Closed { .. } => Ok(()),
            State::Open(open) => open.check(&self.policy, now),
        }
    }

    /// Lets one call go. It must end in [`Circuit::judge`], or an open circuit
    /// waits for its probe for ever.
    pub(super) fn enter(&mut self, now: Instant) -> Result<Epoch, Held> {
        if let State::Open(open) = &mut self.state {
            open.check(&self.policy, now)?;
            open.probing = true;
        }
        Ok(self.epoch)
    }

    /// Hears what came of a call; `None` if that tells nothing. `draw` is in
    /// `0.0..1.0`.
    pub(super) fn judge(
        &mut self,
        epoch: Epoch,
        health: Option<Health>,
        now: Instant,
        draw: f64,
    ) -> Option<Change> {
        if epoch != self.epoch || !self.policy.enabled {
            return None;
        }
        match (&mut self.state, health) {
            (State::Closed { .. }, None | Some(Health::Throttling)) => None,
            (State::Closed { in_a_row, recent }, Some(Health::Alive)) => {
                *in_a_row = 0;
                recent.now(now).successes += 1;
                None
            }
            (State::Closed { in_a_row, recent }, Some(Health::Failing(last))) => {
                *in_a_row += 1;
                recent.now(now).failures += 1;
                let reason = too_many(&self.policy, *in_a_row, recent.sum(), last)?;
                Some(self.open(reason, now, draw))
            }
            // Another call probes.
            (State::Open(open), None) => {
                open.probing = false;
                None
            }
            (State::Open(_), Some(Health::Alive | Health::Throttling)) => {
                let after = now - self.since;
                self.close(now);
                Some(Change::Closed { after })
            }
            (State::Open(open), Some(Health::Failing(_))) => {
                open.probing = false;
                open.failed_probes = open.failed_probes.saturating_add(1);
                let span = open_for(&self.policy, open.failed_probes, draw);
                open.until = now + span;
                Some(Change::Reopened { open: span })
            }
        }
    }

    pub(super) fn phase(&self, now: Instant) -> Phase {
        match &self.state {
            State::Closed { .. } => Phase::Closed,
            State::Open(open) if now < open.until => Phase::Open,
            State::Open(_) => Phase::HalfOpen,
        }
    }

    /// Since when it is closed, or is not.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Why it opened last.
    pub(super) fn last_reason(&self) -> Option<Reason> {
        self.last_reason
    }

    fn open(&mut self, reason: Reason, now: Instant, draw: f64) -> Change {
        let span = open_for(&self.policy, 0, draw);
        self.enter_state(
            State::Open(Open {
                reason,
                until: now + span,
                failed_probes: 0,
                probing: false,
            }),
            now,
        );
        self.last_reason = Some(reason);
        Change::Opened { reason, open: span }
    }

    fn close(&mut self, now: Instant) {
        self.enter_state(State::closed(&self.policy, now), now);
    }

    fn enter_state(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
        self.epoch.0 += 1;
    }
}

impl State {
    fn closed(policy: &Policy, now: Instant) -> Self {
        Self::Closed {
            in_a_row: 0,
            recent: Recent::new(policy.window, now),
        }
    }
}

impl Open {
    fn check(&self, policy: &Policy, now: Instant) -> Result<(), Held> {
        let wait = match self.probing {
            // What it would be at least if the probe failed now.
            true => policy.open,
            false => self.until.saturating_duration_since(now),
        };
        let reason = self.reason;
        match wait.is_zero() {
            true => Ok(()),
            false => Err(Held { wait, reason }),
        }
    }
}

/// Whether one more failure is one too many.
fn too_many(policy: &Policy, in_a_row: u32, recent: Tally, last: Outcome) -> Option<Reason> {
    if in_a_row >= policy.consecutive_failures.get() {
        let failures = in_a_row;
        return Some(Reason::InARow { failures, last });
    }
    let Tally {
        successes,
        failures,
    } = recent;
    let attempts = successes.saturating_add(failures);
    let due = u64::from(attempts) * u64::from(policy.min_success_percent);
    let too_few = u64::from(successes) * 100 < due;
    (too_few && attempts >= policy.min_requests.get()).then_some(Reason::Share {
        successes,
        attempts,
        last,
    })
}

/// Doubled with each failed probe, and capped; up to a fifth less by the dice, lest
/// several gateways probe at the same moment.
fn open_for(policy: &Policy, failed_probes: u32, draw: f64) -> Duration {
    let doubled = policy
        .open
        .saturating_mul(2u32.saturating_pow(failed_probes));
    doubled.min(policy.max_open).mul_f64(1.0 - draw / 5.0)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = match self {
            Self::InARow { failures, last } => {
                write!(f, "{failures} failures in a row")?;
                last
            }
            Self::Share {
                successes,
                attempts,
                last,
            } => {
                write!(f, "{successes} successes in {attempts} attempts")?;
                last
            }
        };
        match last {
            Outcome::Answered(status, _) => write!(f, ", the last was {}", status.as_str()),
            Outcome::Failed(kind) => write!(f, ", the last was {}", kind.label()),
        }
    }
}

#[cfg(test)]
mod tests;
