//! What the gateway promises of quotas and outages, kept by the whole pipeline in
//! virtual time. Each scenario prints its seed.

use std::time::Duration;

use alexa_gateway::lab::simulate::report::{jain, within};
use alexa_gateway::lab::simulate::trace::{Load, SkillLoad};
use alexa_gateway::lab::simulate::upstream::{Change, Outage, OutageKind, Setting};
use alexa_gateway::lab::simulate::{Alexa, Report, Scenario, Trace};
use alexa_gateway::lab::window::WindowKind;
use alexa_gateway::limits::Quota;
use alexa_gateway::region::Region;

use crate::support::gateway::load;

const S: Duration = Duration::from_secs(1);

fn quota(text: &str) -> Option<Quota> {
    Some(text.parse().unwrap())
}

/// Skills that ask for one thing at a time, each with a token of its own.
fn skills(rates: &[f64], region: impl Fn(usize) -> Region, length: Duration) -> Load {
    let mut skills = SkillLoad::equal(rates.len(), 0.0);
    for (n, skill) in skills.iter_mut().enumerate() {
        (skill.rate, skill.region) = (rates[n], region(n));
    }
    Load {
        fan_out: 1,
        operations: 1,
        ..Load::steady(skills, length)
    }
}

#[expect(clippy::print_stdout, reason = "the seed of what failed is to be seen")]
fn play(load_of: &Load, alexa: Alexa, config: &str, seed: u64) -> Report {
    println!("seed {seed:#x}");
    let scenario = Scenario {
        trace: Trace::draw(load_of, seed),
        alexa,
        seed,
    };
    scenario.play(&load(config), &[], |_| {}).unwrap()
}

fn per_second(count: u64, length: Duration) -> f64 {
    count as f64 / length.as_secs_f64()
}

#[test]
fn a_hidden_quota_is_learned_and_skills_do_not_see_its_429s() {
    for (window, seed) in [
        (WindowKind::Sliding, 0x5eed_0100),
        (WindowKind::Fixed, 0x5eed_0101),
    ] {
        let alexa = Alexa {
            skill_quota: quota("20/1s"),
            window,
            changes: vec![
                Change {
                    at: 360 * S,
                    to: Setting::SkillQuota(quota("5/1s")),
                },
                Change {
                    at: 480 * S,
                    to: Setting::SkillQuota(quota("20/1s")),
                },
            ],
            ..Alexa::default()
        };
        let report = play(&skills(&[30.0], |_| Region::Eu, 640 * S), alexa, "", seed);
        let steady = report.between(60 * S..360 * S);
        let used = per_second(steady.accepted, 300 * S) / 20.0;
        println!(
            "{window:?}: {used:.3} used, {} of {} refused",
            steady.throttled, steady.attempts
        );
        assert!(used >= 0.85, "{used}");
        // One try or two in five minutes is all that is too much.
        assert!(
            steady.throttled * 1000 <= steady.attempts.next_multiple_of(1000),
            "{steady:?}"
        );
        let dropped = report.between(370 * S..480 * S);
        assert!(
            per_second(dropped.accepted, 110 * S) >= 0.8 * 5.0,
            "{dropped:?}"
        );
        assert!(dropped.throttled <= 6, "{dropped:?}");
        let risen = report.between(600 * S..640 * S);
        assert!(
            per_second(risen.accepted, 40 * S) >= 0.8 * 20.0,
            "{risen:?}"
        );
        // Only those who had waited until their deadline could not wait on.
        let total = report.total();
        println!("{} of {} 429s relayed", total.relayed_429, total.throttled);
        assert!(total.relayed_429 * 1000 <= total.asked, "{total:?}");
        assert!(
            report.latest <= Duration::from_millis(20),
            "{:?}",
            report.latest
        );
    }
}

#[test]
fn with_time_to_wait_no_skill_sees_a_429() {
    let seed = 0x5eed_0102;
    // Bursts of three that are more than is allowed at once, and less on the whole.
    let load_of = Load {
        operations: 3,
        ..skills(&[2.5; 3], |_| Region::Eu, 600 * S)
    };
    let alexa = Alexa {
        skill_quota: quota("5/1s"),
        ..Alexa::default()
    };
    let total = play(&load_of, alexa, "[deadline]\ndefault = '8s'\n", seed).total();
    println!(
        "{} 429s of Alexa for {} requests",
        total.throttled, total.asked
    );
    assert!(total.throttled > 0, "Alexa has said 429: {total:?}");
    assert_eq!((total.relayed_429, total.refused_429), (0, 0), "{total:?}");
    assert_eq!(total.served, total.asked);
}

#[test]
fn an_outage_costs_few_calls_and_only_its_region() {
    let kinds = [
        OutageKind::Refused,
        OutageKind::Silent,
        OutageKind::Unavailable,
    ];
    for (kind, seed) in kinds.into_iter().zip(0x5eed_0110..) {
        let rates = [40.0; 3];
        let load_of = skills(&rates, |n| Region::ALL[n], 180 * S);
        let down = Outage {
            region: Region::Eu,
            from: 60 * S,
            length: 60 * S,
            kind,
        };
        let calm = play(&load_of, Alexa::default(), "", seed);
        let alexa = Alexa {
            outages: vec![down],
            ..Alexa::default()
        };
        let report = play(&load_of, alexa, "", seed);
        let eu = report.region(Region::Eu, 60 * S..120 * S);
        let each = eu.attempts_per_request();
        println!("{kind:?}: {each:.3} attempts for each request of the outage");
        assert!(each <= 1.1, "{each}");
        for region in [Region::Na, Region::Fe] {
            let served = |report: &Report| report.region(region, Duration::ZERO..180 * S).served;
            assert_eq!(served(&report), served(&calm), "{region} is not moved");
        }
        let after = report.region(Region::Eu, 125 * S..170 * S);
        let lost = after.relayed_429 + after.refused_429 + after.failed + after.late;
        assert_eq!(lost, 0, "{kind:?}: back within 5 s: {after:?}");
        assert!(
            per_second(after.served, 45 * S) > 0.9 * rates[0],
            "{after:?}"
        );
    }
}

/// The 99th percentile of the waits of all skills but the first.
fn p99(report: &Report) -> Duration {
    let mut waits = report.skills[1].wait.clone();
    for skill in &report.skills[2..] {
        waits.add(&skill.wait).unwrap();
    }
    within(&waits, 0.99)
}

#[test]
fn a_noisy_skill_leaves_the_others_what_is_theirs() {
    let seed = 0x5eed_0120;
    let mut rates = [1.0; 50];
    rates[0] = 100.0;
    let config = "[limits.profile]\nregion = { requests = 100, per = '1s' }\n";
    let load_of = skills(&rates, |_| Region::Eu, 120 * S);
    let alexa = || Alexa {
        region_quota: quota("100/1s"),
        ..Alexa::default()
    };
    rates[0] = 0.001;
    let calm = play(
        &skills(&rates, |_| Region::Eu, 120 * S),
        alexa(),
        config,
        seed,
    );
    let noisy = play(&load_of, alexa(), config, seed);
    assert_eq!(noisy.total().throttled, 0, "Alexa never said 429");
    // What the polite ask for is less than an equal share, so it is their share.
    let served = noisy.skills[1..]
        .iter()
        .map(|skill| skill.counts.served as f64 / skill.counts.asked as f64);
    let index = jain(served.clone());
    let (before, after) = (p99(&calm), p99(&noisy));
    println!("Jain {index:.4}, p99 wait {before:?} without and {after:?} with the noisy one");
    assert!(after <= before.mul_f64(1.1), "{before:?} {after:?}");
    assert!(index >= 0.98, "{index}");
    assert!(served.clone().all(|share| share > 0.99));
}
