//! The state machine of a breaker: closed, open, half-open.
//!
//! Closed: every call is permitted. Failures are counted in a row and as a share of a
//! sliding window; too many of either open the circuit. Open: no call is permitted for a
//! time that doubles with each failed probe. Half-open, after that time: one call at a
//! time is permitted, the probe. If it fails the circuit opens again; any other outcome
//! closes it.
//!
//! Pure: time and the random draw are passed in.

mod recent;

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::upstream::retry::AttemptOutcome;
use recent::{Counts, Recent};

/// When calls to a region fail fast, and for how long; `[breaker]` as it is written.
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

/// What one attempt says about the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It responds, with any other status.
    Alive,
    /// It throttles a skill: neither a success nor a failure, but enough for a probe.
    Throttling,
    /// It does not respond, or responds that it cannot.
    Failing(AttemptOutcome),
}

/// The state at one moment, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Every call is permitted.
    Closed,
    /// One call at a time is permitted, as a probe.
    HalfOpen,
    /// No call is permitted.
    Open,
}

/// Why a circuit opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// `breaker.consecutive_failures` was reached.
    InARow { failures: u32, last: AttemptOutcome },
    /// `breaker.min_success_percent` was missed.
    Share {
        successes: u32,
        attempts: u32,
        last: AttemptOutcome,
    },
}

/// A call is not permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Time until the next probe.
    pub(super) wait: Duration,
    /// Why the circuit opened.
    pub(super) reason: Reason,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The circuit opened, for this long at least.
    Opened { reason: Reason, open: Duration },
    /// A probe failed, and the circuit stays open for this long at least.
    Reopened { open: Duration },
    /// A probe succeeded, this long after the circuit opened.
    Closed { after: Duration },
}

/// Numbers the states. An outcome counts only in the state in which its call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u64);

/// The circuit of one region.
#[derive(Debug)]
pub(super) struct Circuit {
    policy: Policy,
    state: CircuitState,
    epoch: Epoch,
    since: Instant,
    last_reason: Option<Reason>,
}

#[derive(Debug)]
enum CircuitState {
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
            state: CircuitState::closed(&policy, now),
            policy,
            epoch: Epoch(0),
            since: now,
            last_reason: None,
        }
    }

    /// Applies a new policy. The state is kept where it can be: a circuit that is
    /// disabled closes, and a window of a new length starts empty.
    pub(super) fn reconfigure(&mut self, policy: Policy, now: Instant) {
        let resized = policy.window != self.policy.window;
        self.policy = policy;
        match &mut self.state {
            CircuitState::Closed { recent, .. } if resized => {
                *recent = Recent::new(policy.window, now)
            }
            CircuitState::Open(_) if !policy.enabled => self.close(now),
            _ => {}
        }
    }

    /// Checks whether a call would be permitted now.
    pub(super) fn check(&self, now: Instant) -> Result<(), Rejected> {
        match &self.state {
            CircuitState::Closed { .. } => Ok(()),
            CircuitState::Open(open) => open.check(&self.policy, now),
        }
    }

    /// Permits one call. It must end in [`Circuit::judge`], or an open circuit waits
    /// for its probe forever.
    pub(super) fn enter(&mut self, now: Instant) -> Result<Epoch, Rejected> {
        if let CircuitState::Open(open) = &mut self.state {
            open.check(&self.policy, now)?;
            open.probing = true;
        }
        Ok(self.epoch)
    }

    /// Takes the outcome of a call; `None` if it says nothing about the region. `draw` is
    /// in `0.0..1.0`.
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
            (CircuitState::Closed { .. }, None | Some(Health::Throttling)) => None,
            (CircuitState::Closed { in_a_row, recent }, Some(Health::Alive)) => {
                *in_a_row = 0;
                recent.now(now).successes += 1;
                None
            }
            (CircuitState::Closed { in_a_row, recent }, Some(Health::Failing(last))) => {
                *in_a_row += 1;
                recent.now(now).failures += 1;
                let reason = too_many(&self.policy, *in_a_row, recent.sum(), last)?;
                Some(self.open(reason, now, draw))
            }
            // Another call will be the probe.
            (CircuitState::Open(open), None) => {
                open.probing = false;
                None
            }
            (CircuitState::Open(_), Some(Health::Alive | Health::Throttling)) => {
                let after = now - self.since;
                self.close(now);
                Some(Change::Closed { after })
            }
            (CircuitState::Open(open), Some(Health::Failing(_))) => {
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
            CircuitState::Closed { .. } => Phase::Closed,
            CircuitState::Open(open) if now < open.until => Phase::Open,
            CircuitState::Open(_) => Phase::HalfOpen,
        }
    }

    /// When it last opened or closed.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Why it last opened.
    pub(super) fn last_reason(&self) -> Option<Reason> {
        self.last_reason
    }

    fn open(&mut self, reason: Reason, now: Instant, draw: f64) -> Change {
        let span = open_for(&self.policy, 0, draw);
        self.enter_state(
            CircuitState::Open(Open {
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
        self.enter_state(CircuitState::closed(&self.policy, now), now);
    }

    fn enter_state(&mut self, state: CircuitState, now: Instant) {
        self.state = state;
        self.since = now;
        self.epoch.0 += 1;
    }
}

impl CircuitState {
    fn closed(policy: &Policy, now: Instant) -> Self {
        Self::Closed {
            in_a_row: 0,
            recent: Recent::new(policy.window, now),
        }
    }
}

impl Open {
    fn check(&self, policy: &Policy, now: Instant) -> Result<(), Rejected> {
        let wait = if self.probing {
            // The least that it would be if the probe failed now.
            policy.open
        } else {
            self.until.saturating_duration_since(now)
        };
        if wait.is_zero() {
            return Ok(());
        }
        let reason = self.reason;
        Err(Rejected { wait, reason })
    }
}

/// Why this failure opens the circuit, if it does.
fn too_many(
    policy: &Policy,
    in_a_row: u32,
    recent: Counts,
    last: AttemptOutcome,
) -> Option<Reason> {
    if in_a_row >= policy.consecutive_failures.get() {
        let failures = in_a_row;
        return Some(Reason::InARow { failures, last });
    }
    let Counts {
        successes,
        failures,
    } = recent;
    let attempts = successes.saturating_add(failures);
    let required = u64::from(attempts) * u64::from(policy.min_success_percent);
    let too_few = u64::from(successes) * 100 < required;
    (too_few && attempts >= policy.min_requests.get()).then_some(Reason::Share {
        successes,
        attempts,
        last,
    })
}

/// How long the circuit stays open: doubled with each failed probe, capped, and up to a
/// fifth shorter at random, so that several gateways do not probe at the same moment.
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
            AttemptOutcome::Responded(status, _) => write!(f, ", the last was {}", status.as_str()),
            AttemptOutcome::Failed(kind) => write!(f, ", the last was {}", kind.label()),
        }
    }
}

#[cfg(test)]
mod tests;
