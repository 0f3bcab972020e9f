use std::time::Duration;

use super::Scenario;
use crate::config::Config;
use crate::config::layers::Sources;
use crate::lab::simulate::report::Report;
use crate::lab::simulate::trace::{Load, SkillLoad, Target, Trace, TraceRequest};
use crate::lab::simulate::upstream::{Alexa, Change, Outage, OutageKind, Setting};
use crate::lab::window::WindowKind;
use crate::limits::Quota;
use crate::region::Region;

const SECOND: Duration = Duration::from_secs(1);

fn config(text: &str) -> Config {
    let sources = Sources {
        file: Some(("test", text)),
        environment: &[],
    };
    Config::load(&sources).unwrap()
}

fn quota(text: &str) -> Option<Quota> {
    Some(text.parse().unwrap())
}

/// Three skills, one in each region, 90 requests per second in all: each skill
/// sends 10 different requests per second, three times each.
fn scenario(alexa: Alexa) -> Scenario {
    let load = Load::steady(SkillLoad::equal(3, 90.0), 60 * SECOND);
    Scenario {
        trace: Trace::draw(&load, 1),
        alexa,
        seed: 1,
    }
}

fn play(scenario: &Scenario, config: &Config) -> Report {
    let report = scenario.play(config, &[], |_| {}).unwrap();
    check_sums(&report, scenario);
    report
}

/// Checks what holds for every report.
fn check_sums(report: &Report, scenario: &Scenario) {
    let total = report.total();
    assert_eq!(total.asked, scenario.trace.requests().count() as u64);
    let ends = [
        total.served,
        total.late,
        total.relayed_429,
        total.refused_429,
        total.failed,
    ];
    assert_eq!(total.asked, ends.iter().sum::<u64>());
    assert_eq!(total.asked, report.statuses.values().sum::<u64>());
    assert_eq!(total, report.between(Duration::ZERO..Duration::MAX));
    let regions = Region::ALL.map(|region| report.region(region, Duration::ZERO..Duration::MAX));
    assert_eq!(
        total.asked,
        regions.iter().map(|counts| counts.asked).sum::<u64>()
    );
    if scenario.alexa.outages.is_empty() {
        assert_eq!(total.attempts, total.accepted + total.throttled);
    }
    for skill in &report.skills {
        let activity = skill.between(Duration::ZERO..Duration::MAX);
        assert_eq!(activity.asked, skill.counts.asked);
        assert_eq!(activity.served, skill.counts.served);
        assert_eq!(skill.latency.len(), skill.counts.served + skill.counts.late);
    }
}

#[test]
fn the_seed_determines_the_report() {
    let mut scenario = scenario(Alexa {
        skill_quota: quota("8/1s"),
        timeouts: 0.01,
        resets: 0.01,
        errors: 0.01,
        retry_after: true,
        ..Alexa::default()
    });
    let config = config("[limits.profile]\nskill = { requests = 9, per = '1s' }");
    let first = play(&scenario, &config);
    assert!(first.total().throttled > 0 && first.total().failed > 0);
    assert_eq!(play(&scenario, &config), first);
    scenario.seed = 2;
    assert_ne!(play(&scenario, &config), first);
}

#[test]
fn equal_requests_share_calls_and_stored_responses() {
    let report = play(&scenario(Alexa::default()), &config(""));
    let total = report.total();
    assert_eq!(total.served, total.asked);
    // Each turn calls each of three operations three times.
    assert_eq!(total.attempts * 3, total.asked);
    assert_eq!(total.attempts, total.accepted);
    assert_eq!(total.hits + total.collapsed + total.attempts, total.asked);
    // The second of three services starts at once, the third after the response.
    assert!((0.3..0.36).contains(&total.hit_ratio()), "{total:?}");
    assert!((0.3..0.36).contains(&total.collapsed_share()), "{total:?}");
    assert_eq!(report.fairness(Duration::ZERO..Duration::MAX), 1.0);
    assert!(report.latency(1.0) <= Duration::from_millis(81));
    assert_eq!(report.wait(1.0), Duration::ZERO);
}

#[test]
fn a_configured_quota_prevents_429s_of_alexa() {
    for window in [WindowKind::Sliding, WindowKind::Fixed] {
        let scenario = scenario(Alexa {
            skill_quota: quota("20/1s"),
            window,
            timeouts: 0.01,
            ..Alexa::default()
        });
        let kept = config("[limits.profile]\nskill = { requests = 20, per = '1s' }");
        let report = play(&scenario, &kept);
        assert_eq!(report.total().throttled, 0, "{window}");
        assert!(report.wait(0.99) > Duration::ZERO && report.peak_queue() > 0);
        let unknown = play(&scenario, &config(""));
        assert!(unknown.total().throttled > 0, "{window}");
    }
}

#[test]
fn requests_that_cannot_meet_their_deadline_are_refused_at_once() {
    let scenario = scenario(Alexa {
        skill_quota: quota("5/1s"),
        ..Alexa::default()
    });
    let config = config("[limits.profile]\nskill = { requests = 5, per = '1s' }");
    let report = play(&scenario, &config);
    let total = report.total();
    assert_eq!((total.throttled, total.relayed_429), (0, 0));
    assert!(total.refused_429 > total.asked / 4, "{total:?}");
    assert!(report.errors["quota"] > 0);
    // Requests wait almost as long as the deadline allows, and no longer.
    let (wait, deadline) = (report.wait(0.99), Duration::from_millis(2500));
    assert!((2 * SECOND..deadline).contains(&wait), "{wait:?}");
    assert!(report.latency(0.99) >= wait && report.latest.is_zero());
    assert!(report.refusals.value_at_quantile(0.99) <= 5);
    let goodput = report.goodput(10 * SECOND..60 * SECOND);
    assert!(goodput > 0.0 && goodput < 90.0, "{goodput}");
}

#[test]
fn relayed_429s_are_counted_apart_from_the_gateways_own() {
    let scenario = scenario(Alexa {
        skill_quota: quota("1/1s"),
        ..Alexa::default()
    });
    let report = play(&scenario, &config("[retry]\nmax_attempts = 1"));
    let total = report.total();
    assert!(total.throttled > 0, "{total:?}");
    assert!(total.relayed_429 >= total.throttled, "{total:?}");
}

#[test]
fn quotas_can_change_during_the_trace_for_alexa_and_for_the_gateway() {
    let scenario = scenario(Alexa {
        skill_quota: quota("50/1s"),
        changes: vec![Change {
            at: 30 * SECOND,
            to: Setting::SkillQuota(quota("12/1s")),
        }],
        ..Alexa::default()
    });
    let before = config("[limits.profile]\nskill = { requests = 50, per = '1s' }");
    let after = config("[limits.profile]\nskill = { requests = 12, per = '1s' }");
    // A second earlier, because calls sent before still count.
    let reloads = [(29 * SECOND, after)];
    let report = scenario.play(&before, &reloads, |_| {}).unwrap();
    check_sums(&report, &scenario);
    assert_eq!(report.total().throttled, 0);
    let early = report.between(Duration::ZERO..30 * SECOND);
    assert_eq!((early.refused_429, early.failed), (0, 0));
    let unaware = play(&scenario, &before);
    assert_eq!(unaware.between(Duration::ZERO..30 * SECOND).throttled, 0);
    assert!(unaware.between(30 * SECOND..60 * SECOND).throttled > 0);
}

#[test]
fn an_outage_affects_one_region_and_ends() {
    for kind in [
        OutageKind::Refused,
        OutageKind::Silent,
        OutageKind::Unavailable,
    ] {
        let scenario = scenario(Alexa {
            outages: vec![Outage {
                region: Region::Eu,
                from: 20 * SECOND,
                length: 10 * SECOND,
                kind,
            }],
            ..Alexa::default()
        });
        let report = play(&scenario, &config(""));
        let failed =
            |region, from: u32, to: u32| report.region(region, from * SECOND..to * SECOND).failed;
        assert!(failed(Region::Eu, 20, 35) > 0, "{kind:?}");
        assert_eq!(failed(Region::Eu, 0, 20), 0, "{kind:?}");
        assert_eq!(failed(Region::Eu, 35, 70), 0, "{kind:?}");
        assert_eq!(failed(Region::Na, 0, 70) + failed(Region::Fe, 0, 70), 0);
        let out = report.region(Region::Eu, 21 * SECOND..29 * SECOND);
        assert_eq!(out.accepted, 0, "{kind:?}");
        assert!(out.attempts > 0);
    }
}

#[test]
fn a_shorter_timeout_of_the_caller_is_met() {
    let mut load = Load::steady(SkillLoad::equal(3, 90.0), 30 * SECOND);
    load.timeout = Some(Duration::from_millis(300));
    let scenario = Scenario {
        trace: Trace::draw(&load, 1),
        alexa: Alexa {
            timeouts: 0.05,
            ..Alexa::default()
        },
        seed: 1,
    };
    let report = play(&scenario, &config(""));
    assert!(report.statuses[&504] > 0);
    assert!(
        report.latest <= Duration::from_millis(20),
        "{:?}",
        report.latest
    );
}

#[test]
fn requests_without_a_cache_rule_pass_through() {
    let request = |n: u32| TraceRequest {
        at: n * SECOND,
        turn: 0,
        skill: 0,
        target: 0,
        timeout_ms: 0,
        region: Region::Fe,
        no_cache: false,
    };
    let target = Target {
        method: http::Method::POST,
        path: "/v1/directives".to_owned(),
    };
    let scenario = Scenario {
        trace: Trace::of(
            vec![None],
            vec![target],
            vec![request(2), request(0), request(1)],
        ),
        alexa: Alexa::default(),
        seed: 1,
    };
    let report = play(&scenario, &config(""));
    let counts = report.region(Region::Fe, Duration::ZERO..9 * SECOND);
    assert_eq!((counts.asked, counts.served, counts.attempts), (3, 3, 3));
    assert_eq!(counts.hits + counts.collapsed, 0);
}

#[test]
fn an_invalid_path_is_an_error() {
    let trace = Trace::of(vec![None], vec![Target::get("no path")], vec![]);
    let scenario = Scenario {
        trace,
        alexa: Alexa::default(),
        seed: 1,
    };
    let error = scenario.play(&config(""), &[], |_| {}).unwrap_err();
    assert!(error.to_string().contains("no path"), "{error}");
}
