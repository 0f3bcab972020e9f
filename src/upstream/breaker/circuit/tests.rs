//! When a circuit opens, stays open and closes.

use super::*;
use crate::error::Kind;

const MS: Duration = Duration::from_millis(1);
const ALIVE: Option<Health> = Some(Health::Alive);
const THROTTLING: Option<Health> = Some(Health::Throttling);
const FAILING: Option<Health> = Some(Health::Failing(AttemptOutcome::Failed(Kind::Connect)));

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
        entered.map_err(|rejected| rejected.wait)
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
fn failures_in_a_row_open_the_circuit() {
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
fn a_success_ends_the_row_of_failures() {
    let mut bench = Bench::new();
    bench.calls(20, ALIVE);
    bench.calls(4, FAILING);
    bench.calls(1, ALIVE);
    bench.calls(4, FAILING);
    assert_eq!(bench.phase(), Phase::Closed);
    assert!(bench.call(FAILING).is_some());
}

#[test]
fn an_outcome_that_says_nothing_neither_extends_nor_ends_the_row() {
    for nothing in [None, THROTTLING] {
        let mut bench = Bench::new();
        bench.calls(4, FAILING);
        bench.calls(100, nothing);
        assert_eq!(bench.phase(), Phase::Closed);
        assert!(bench.call(FAILING).is_some());
    }
}

#[test]
fn a_low_share_of_successes_opens_the_circuit() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.calls(1, ALIVE);
        bench.calls(1, FAILING);
    }
    assert_eq!(
        bench.phase(),
        Phase::Closed,
        "half are successes, which is enough"
    );
    let Some(Change::Opened { reason, .. }) = bench.call(FAILING) else {
        panic!("{bench:?}", bench = bench.circuit);
    };
    assert_eq!(
        reason.to_string(),
        "4 successes in 9 attempts, the last was connect"
    );
}

#[test]
fn a_share_of_too_few_calls_does_not_count() {
    let mut bench = Bench::new();
    bench.calls(3, FAILING);
    bench.calls(1, ALIVE);
    bench.calls(3, FAILING);
    assert_eq!(bench.phase(), Phase::Closed, "seven calls");
    assert!(bench.call(FAILING).is_some(), "eight");
}

#[test]
fn calls_outside_the_window_do_not_count() {
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
fn half_open_permits_one_probe() {
    let mut bench = Bench::opened();
    assert_eq!(bench.later(499 * MS).enter(), Err(MS));
    assert_eq!(bench.later(MS).phase(), Phase::HalfOpen);
    assert!(bench.circuit.check(bench.now).is_ok());
    assert!(bench.enter().is_ok());
    assert_eq!(bench.enter(), Err(500 * MS), "a probe is on its way");
    assert!(bench.circuit.check(bench.now).is_err());
}

#[test]
fn a_successful_probe_closes_the_circuit_and_clears_its_history() {
    for success in [ALIVE, THROTTLING] {
        let mut bench = Bench::opened();
        let closed = bench.later(700 * MS).call(success);
        assert_eq!(closed, Some(Change::Closed { after: 700 * MS }));
        bench.calls(4, FAILING);
        assert_eq!(bench.phase(), Phase::Closed);
    }
}

#[test]
fn each_failed_probe_doubles_the_time_up_to_the_maximum() {
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
fn a_probe_that_says_nothing_makes_room_for_the_next() {
    let mut bench = Bench::opened();
    let probe = bench.later(500 * MS).enter().unwrap();
    assert_eq!(bench.judge(probe, None), None);
    assert_eq!(bench.phase(), Phase::HalfOpen);
    assert!(bench.enter().is_ok());
}

#[test]
fn calls_from_before_the_last_change_do_not_count() {
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
fn a_late_response_does_not_end_the_probe() {
    let mut bench = Bench::new();
    let early = bench.enter().unwrap();
    bench.calls(5, FAILING);
    bench.later(500 * MS);
    let _probe = bench.enter().unwrap();
    bench.judge(early, None);
    assert!(bench.enter().is_err());
}

#[test]
fn jitter_shortens_the_time_by_a_fifth_at_most() {
    let open = |draw| open_for(&policy(), 9, draw);
    assert_eq!([0.0, 0.5].map(open), [2000 * MS, 1800 * MS]);
    assert!(open(0.999) > 1600 * MS);
}

#[test]
fn a_disabled_circuit_closes_and_stays_closed() {
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
fn a_new_policy_keeps_the_history() {
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
