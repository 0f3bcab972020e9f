use std::collections::HashMap;
use std::time::Duration;

use super::{Load, Shape, SkillLoad, Trace, TraceRequest};

const LENGTH: Duration = Duration::from_secs(600);

fn load(shape: Shape) -> Load {
    Load {
        shape,
        ..Load::steady(SkillLoad::equal(5, 90.0), LENGTH)
    }
}

#[test]
fn the_seed_determines_the_trace() {
    let draw = |seed| -> Vec<TraceRequest> {
        Trace::draw(&load(Shape::Steady), seed)
            .requests()
            .take(5000)
            .collect()
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn requests_match_the_rate_and_come_in_order() {
    for (shape, first, second) in [
        (Shape::Steady, 27_000.0, 27_000.0),
        (Shape::Morning, 27_000.0, 27_000.0),
        (Shape::Step(LENGTH / 2, 3.0), 27_000.0, 81_000.0),
        (Shape::Step(LENGTH / 2, 0.0), 27_000.0, 0.0),
    ] {
        let requests: Vec<TraceRequest> = Trace::draw(&load(shape), 1).requests().collect();
        assert!(requests.is_sorted_by_key(|request| request.at));
        let early = requests
            .iter()
            .filter(|request| request.at < LENGTH / 2)
            .count() as f64;
        let late = requests.len() as f64 - early;
        // Turns are Poisson: the standard deviation of the requests is 9 times
        // the root of the number of turns. Allow four times that.
        let near =
            |seen: f64, meant: f64| (seen - meant).abs() <= 36.0 * (meant / 9.0).sqrt() + 40.0;
        assert!(
            near(early, first) && near(late, second),
            "{shape:?}: {early}, {late}"
        );
    }
}

#[test]
fn a_morning_peaks_in_the_middle() {
    let requests: Vec<TraceRequest> = Trace::draw(&load(Shape::Morning), 1).requests().collect();
    let quarter = |n: u32| {
        let quarter = LENGTH / 4 * n..LENGTH / 4 * (n + 1);
        requests
            .iter()
            .filter(|request| quarter.contains(&request.at))
            .count()
    };
    assert!(quarter(1) > 2 * quarter(0) && quarter(2) > 2 * quarter(3));
}

#[test]
fn in_a_turn_every_service_calls_every_operation_once_for_one_skill() {
    let mut turns: HashMap<u32, Vec<TraceRequest>> = HashMap::new();
    for request in Trace::draw(&load(Shape::Steady), 1).requests().take(9000) {
        turns.entry(request.turn).or_default().push(request);
    }
    for requests in turns.values().filter(|requests| requests.len() == 9) {
        assert!(
            requests
                .iter()
                .all(|request| request.skill == requests[0].skill)
        );
        for target in 0..3 {
            assert_eq!(
                requests
                    .iter()
                    .filter(|request| request.target == target)
                    .count(),
                3
            );
        }
    }
    assert!(
        turns
            .values()
            .filter(|requests| requests.len() == 9)
            .count()
            > 900
    );
}
