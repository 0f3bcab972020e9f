//! Whether a region is worth calling: closed, open, half-open.
//!
//! Closed, every call goes, and failures are counted in a row and as a share of a
//! sliding window. Open, none goes until a moment that moves out with each failed
//! probe; after it, half-open, a single call goes at a time, the probe, whose
//! success closes the circuit and whose failure opens it again. For a probe every
//! answer that is no failure is a success.
//!
//! Pure: time is passed in, and so is the draw of the dice.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::config::file::Breaker as Policy;
use crate::upstream::retry::Outcome;

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

/// In how many steps a sliding window slides.
const STEPS: usize = 10;

/// Successes and failures in a sliding window.
#[derive(Debug)]
struct Recent {
    steps: [Tally; STEPS],
    current: usize,
    /// When the current step began.
    began: Instant,
    width: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    successes: u32,
    failures: u32,
}

impl Recent {
    fn new(window: Duration, now: Instant) -> Self {
        Self {
            steps: Default::default(),
            current: 0,
            began: now,
            width: window / STEPS as u32,
        }
    }

    /// The step that counts now, and nothing left of those that have passed.
    fn now(&mut self, now: Instant) -> &mut Tally {
        for step in 0.. {
            if now < self.began + self.width {
                break;
            }
            if step == STEPS {
                // All are empty by now, however long it was.
                self.began = now;
                break;
            }
            self.began += self.width;
            self.current = (self.current + 1) % STEPS;
            self.steps[self.current] = Tally::default();
        }
        &mut self.steps[self.current]
    }

    fn sum(&self) -> Tally {
        let add = |sum: Tally, step: &Tally| Tally {
            successes: sum.successes.saturating_add(step.successes),
            failures: sum.failures.saturating_add(step.failures),
        };
        self.steps.iter().fold(Tally::default(), add)
    }
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
mod tests {
    use super::*;
    use crate::error::Kind;

    const MS: Duration = Duration::from_millis(1);
    const ALIVE: Option<Health> = Some(Health::Alive);
    const THROTTLING: Option<Health> = Some(Health::Throttling);
    const FAILING: Option<Health> = Some(Health::Failing(Outcome::Failed(Kind::Connect)));

    /// A circuit and its clock.
    struct Bench {
        circuit: Circuit,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            let circuit = Circuit::new(policy(), now);
            Self { circuit, now }
        }

        /// One that five failures have just opened.
        fn opened() -> Self {
            let mut bench = Self::new();
            bench.calls(5, FAILING);
            bench
        }

        fn later(&mut self, time: Duration) -> &mut Self {
            self.now += time;
            self
        }

        fn enter(&mut self) -> Result<Epoch, Duration> {
            let entered = self.circuit.enter(self.now);
            entered.map_err(|held| held.wait)
        }

        fn judge(&mut self, epoch: Epoch, health: Option<Health>) -> Option<Change> {
            self.circuit.judge(epoch, health, self.now, 0.0)
        }

        fn call(&mut self, health: Option<Health>) -> Option<Change> {
            let epoch = self.enter().unwrap();
            self.judge(epoch, health)
        }

        fn calls(&mut self, calls: u32, health: Option<Health>) {
            for _ in 0..calls {
                self.call(health);
            }
        }

        fn phase(&self) -> Phase {
            self.circuit.phase(self.now)
        }
    }

    fn policy() -> Policy {
        Policy {
            enabled: true,
            consecutive_failures: 5.try_into().unwrap(),
            min_success_percent: 50,
            min_requests: 8.try_into().unwrap(),
            window: 10_000 * MS,
            open: 500 * MS,
            max_open: 2000 * MS,
        }
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let mut bench = Bench::new();
        bench.calls(4, FAILING);
        assert_eq!(bench.phase(), Phase::Closed);
        let Some(Change::Opened { reason, open }) = bench.call(FAILING) else {
            panic!("{bench:?}", bench = bench.circuit);
        };
        assert_eq!(
            reason.to_string(),
            "5 failures in a row, the last was connect"
        );
        assert_eq!((bench.phase(), open), (Phase::Open, 500 * MS));
        assert_eq!(bench.enter(), Err(500 * MS));
    }

    #[test]
    fn a_success_begins_the_row_anew() {
        let mut bench = Bench::new();
        bench.calls(20, ALIVE);
        bench.calls(4, FAILING);
        bench.calls(1, ALIVE);
        bench.calls(4, FAILING);
        assert_eq!(bench.phase(), Phase::Closed);
        assert!(bench.call(FAILING).is_some());
    }

    #[test]
    fn what_tells_nothing_neither_adds_to_the_row_nor_ends_it() {
        for nothing in [None, THROTTLING] {
            let mut bench = Bench::new();
            bench.calls(4, FAILING);
            bench.calls(100, nothing);
            assert_eq!(bench.phase(), Phase::Closed);
            assert!(bench.call(FAILING).is_some());
        }
    }

    #[test]
    fn a_low_share_of_successes_opens_it() {
        let mut bench = Bench::new();
        for _ in 0..4 {
            bench.calls(1, ALIVE);
            bench.calls(1, FAILING);
        }
        assert_eq!(bench.phase(), Phase::Closed, "half of them is enough");
        let Some(Change::Opened { reason, .. }) = bench.call(FAILING) else {
            panic!("{bench:?}", bench = bench.circuit);
        };
        assert_eq!(
            reason.to_string(),
            "4 successes in 9 attempts, the last was connect"
        );
    }

    #[test]
    fn a_few_calls_are_no_share() {
        let mut bench = Bench::new();
        bench.calls(3, FAILING);
        bench.calls(1, ALIVE);
        bench.calls(3, FAILING);
        assert_eq!(bench.phase(), Phase::Closed, "seven calls");
        assert!(bench.call(FAILING).is_some(), "eight");
    }

    #[test]
    fn what_has_left_the_window_counts_no_more() {
        let mut bench = Bench::new();
        bench.calls(4, FAILING);
        bench.later(5000 * MS).calls(1, ALIVE);
        bench.later(6000 * MS).calls(4, FAILING);
        assert_eq!(bench.phase(), Phase::Closed, "one in five of five calls");
        bench.later(1_000_000_000 * MS).calls(1, ALIVE);
        bench.calls(4, FAILING);
        assert_eq!(bench.phase(), Phase::Closed);
    }

    #[test]
    fn half_open_it_lets_one_probe_go() {
        let mut bench = Bench::opened();
        assert_eq!(bench.later(499 * MS).enter(), Err(MS));
        assert_eq!(bench.later(MS).phase(), Phase::HalfOpen);
        assert!(bench.circuit.check(bench.now).is_ok());
        assert!(bench.enter().is_ok());
        assert_eq!(bench.enter(), Err(500 * MS), "a probe is on its way");
        assert!(bench.circuit.check(bench.now).is_err());
    }

    #[test]
    fn a_probe_that_succeeds_closes_it_and_nothing_is_held_against_the_region() {
        for success in [ALIVE, THROTTLING] {
            let mut bench = Bench::opened();
            let closed = bench.later(700 * MS).call(success);
            assert_eq!(closed, Some(Change::Closed { after: 700 * MS }));
            bench.calls(4, FAILING);
            assert_eq!(bench.phase(), Phase::Closed);
        }
    }

    #[test]
    fn each_probe_that_fails_doubles_the_time_up_to_the_most() {
        let mut bench = Bench::opened();
        for open in [1000 * MS, 2000 * MS, 2000 * MS] {
            let reopened = bench.later(2000 * MS).call(FAILING);
            assert_eq!(reopened, Some(Change::Reopened { open }));
            assert_eq!(bench.enter(), Err(open));
        }
        bench.later(2000 * MS).calls(1, ALIVE);
        bench.calls(5, FAILING);
        assert_eq!(bench.enter(), Err(500 * MS), "closing forgets");
    }

    #[test]
    fn a_probe_that_tells_nothing_makes_room_for_the_next() {
        let mut bench = Bench::opened();
        let probe = bench.later(500 * MS).enter().unwrap();
        assert_eq!(bench.judge(probe, None), None);
        assert_eq!(bench.phase(), Phase::HalfOpen);
        assert!(bench.enter().is_ok());
    }

    #[test]
    fn what_began_before_the_last_change_counts_no_more() {
        let mut bench = Bench::new();
        let early: Vec<_> = (0..20).map(|_| bench.enter().unwrap()).collect();
        bench.calls(5, FAILING);
        assert_eq!(bench.judge(early[0], ALIVE), None, "not the probe");
        assert_eq!(bench.phase(), Phase::Open);
        bench.later(500 * MS).calls(1, ALIVE);
        for epoch in early {
            assert_eq!(bench.judge(epoch, FAILING), None, "of the last outage");
        }
        assert_eq!(bench.phase(), Phase::Closed);
    }

    #[test]
    fn a_late_answer_does_not_end_the_probe() {
        let mut bench = Bench::new();
        let early = bench.enter().unwrap();
        bench.calls(5, FAILING);
        bench.later(500 * MS);
        let _probe = bench.enter().unwrap();
        bench.judge(early, None);
        assert!(bench.enter().is_err());
    }

    #[test]
    fn the_dice_shorten_the_time_by_a_fifth_at_most() {
        let open = |draw| open_for(&policy(), 9, draw);
        assert_eq!([0.0, 0.5].map(open), [2000 * MS, 1800 * MS]);
        assert!(open(0.999) > 1600 * MS);
    }

    #[test]
    fn switched_off_it_closes_and_stays_so() {
        let mut bench = Bench::opened();
        let off = Policy {
            enabled: false,
            ..policy()
        };
        bench.circuit.reconfigure(off, bench.now);
        bench.calls(100, FAILING);
        assert_eq!(bench.phase(), Phase::Closed);
        bench.circuit.reconfigure(policy(), bench.now);
        bench.calls(4, FAILING);
        assert_eq!(bench.phase(), Phase::Closed);
    }

    #[test]
    fn a_new_policy_forgets_nothing_that_it_need_not() {
        let mut bench = Bench::new();
        bench.calls(4, FAILING);
        let shorter = Policy {
            window: 5000 * MS,
            ..policy()
        };
        bench.circuit.reconfigure(shorter, bench.now);
        assert!(bench.call(FAILING).is_some());
        bench.circuit.reconfigure(policy(), bench.now);
        assert_eq!(bench.phase(), Phase::Open);
    }
}
