use std::time::Duration;

use super::*;
use crate::region::Region;

fn load(text: &str) -> Result<Config, Vec<String>> {
    let sources = Sources {
        file: Some(("g.toml", text)),
        environment: &[],
    };
    Config::load(&sources).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn the_defaults_are_valid_and_so_is_the_example() {
    let config = load("").unwrap();
    assert_eq!(config.gateway.routes.rules().len(), 12);
    assert_eq!(config.gateway.deadline.default, Duration::from_millis(2500));
    let example = load(include_str!("../../config/example.toml")).unwrap();
    assert_eq!(
        example.gateway.limits.profile.skill.unwrap().requests.get(),
        20
    );
}

#[test]
fn the_effective_configuration_loads_to_the_same() {
    let config = load("[cache.templates.person_name]\nttl = '3s'\n[limits.profile]\nskill = { requests = 5, per = '1s' }").unwrap();
    assert_eq!(load(&config.effective()).unwrap().file, config.file);
}

#[test]
fn all_problems_are_reported_at_once_with_their_lines() {
    let problems = load(
        "[cache]\nttl = 5\ntttl = '5s'\n[deadline]\nmax = '9s'\n[regions.eu]\nupstream = 'nowhere'\n\
         [limits.profile]\nskill = { requests = 0, per = '1s' }\n[server]\nlisteners = ['nope']\n\
         [cache.templates.mine]\nttl = '1s'\n[nonsense]\n",
    )
    .unwrap_err();
    for (line, path) in [
        (2, "cache.ttl"),
        (3, "cache.tttl"),
        (5, "deadline.max"),
        (7, "regions.eu.upstream"),
        (9, "limits.profile.skill.requests"),
        (11, "server.listeners"),
        (12, "cache.templates.mine"),
        (14, "nonsense"),
    ] {
        let start = format!("g.toml:{line}: {path}: ");
        assert!(
            problems.iter().any(|p| p.starts_with(&start)),
            "{start} in {problems:#?}"
        );
    }
    assert_eq!(problems.len(), 8, "{problems:#?}");
}

#[test]
fn a_bad_duration_is_refused_with_an_example_of_a_good_one() {
    let problems = load("[cache]\nttl = 5\nexpiry_margin = '5'\n").unwrap_err();
    assert_eq!(
        problems,
        [
            "g.toml:2: cache.ttl: invalid type: integer `5`, expected a duration; write it like 10s or 1500ms",
            "g.toml:3: cache.expiry_margin: invalid value: string \"5\", expected a duration; write it like 10s or 1500ms",
        ]
    );
}

#[test]
fn a_bad_breaker_or_retry_budget_is_refused_with_a_reason() {
    let problems = load(
        "[retry]\nbudget_percent = 101\nbudget_min_per_second = 10001\n[breaker]\n\
         consecutive_failures = 0\nmin_success_percent = 101\nmin_requests = 0\n\
         window = '99ms'\nopen = '3s'\nmax_open = '25h'\n",
    )
    .unwrap_err();
    for (problem, expected) in problems.iter().zip([
        "2: retry.budget_percent: must be at most 100",
        "3: retry.budget_min_per_second: must be at most 10000",
        "5: breaker.consecutive_failures: ",
        "6: breaker.min_success_percent: must be at most 100",
        "7: breaker.min_requests: ",
        "8: breaker.window: must be at least 100ms",
        "10: breaker.max_open: must be at most 24h",
    ]) {
        assert!(
            problem.starts_with(&format!("g.toml:{expected}")),
            "{problem}"
        );
    }
    assert_eq!(problems.len(), 7, "{problems:#?}");
    let problems = load("[breaker]\nopen = '3s'").unwrap_err();
    assert_eq!(
        problems,
        ["g.toml:2: breaker.open: must be at most breaker.max_open"]
    );
}

#[test]
fn skills_have_limits_of_their_own_and_all_their_problems_are_reported() {
    let config = load(
        "[limits.profile]\nregion = { requests = 100, per = '1s', burst = 10 }\n\
         [limits.profile.skills.'amzn1.ask.skill.a']\nweight = 3\nfloor = 20\n\
         quota = { requests = 7, per = '1s' }\n",
    )
    .unwrap();
    let (skill, own) = config
        .gateway
        .limits
        .profile
        .skills
        .first_key_value()
        .unwrap();
    assert_eq!(skill.as_str(), "amzn1.ask.skill.a");
    assert_eq!((own.weight, own.floor), (3, 20));
    assert_eq!(own.quota.unwrap().requests.get(), 7);
    assert_eq!(load(&config.effective()).unwrap().file, config.file);
    assert!(config.gateway.limits.profile.adaptive && !config.gateway.limits.passthrough.adaptive);

    let problems = load(
        "[limits.profile.skills.me]\nweight = 0\nfloor = 5\n\
         [limits.profile.skills.'amzn1.ask.skill.a']\nweight = 'x'\nwait = 1\n\
         [limits.passthrough]\nregion = { requests = 6, per = '1s', burst = 7 }\n\
         [limits.passthrough.skills.'amzn1.ask.skill.a']\nfloor = 3\n\
         [limits.passthrough.skills.'amzn1.ask.skill.b']\nfloor = 3\n",
    )
    .unwrap_err();
    for (line, path) in [
        (1, "limits.profile.skills.me"),
        (2, "limits.profile.skills.me.weight"),
        (3, "limits.profile.skills.me.floor"),
        (5, "limits.profile.skills.amzn1.ask.skill.a.weight"),
        (6, "limits.profile.skills.amzn1.ask.skill.a.wait"),
        (8, "limits.passthrough.region.burst"),
        (12, "limits.passthrough.skills.amzn1.ask.skill.b.floor"),
    ] {
        let start = format!("g.toml:{line}: {path}: ");
        assert!(
            problems.iter().any(|p| p.starts_with(&start)),
            "{start} in {problems:#?}"
        );
    }
    assert_eq!(problems.len(), 7, "{problems:#?}");
}

#[test]
fn listeners_are_addresses_or_tables_or_one_string() {
    let listeners = |text: &str| {
        let config = load(&format!("[server]\nlisteners = {text}")).unwrap();
        config
            .server
            .listeners
            .iter()
            .map(|l| (l.address.port(), l.region))
            .collect::<Vec<_>>()
    };
    assert_eq!(listeners("'0.0.0.0:1, [::]:2'"), [(1, None), (2, None)]);
    assert_eq!(
        listeners("['0.0.0.0:1', { address = '0.0.0.0:2', region = 'eu' }]"),
        [(1, None), (2, Some(Region::Eu))]
    );
}

#[test]
fn a_reload_names_the_changes_that_need_a_restart() {
    let old = load("").unwrap();
    let new = load("[cache]\nttl = '1s'\nmax_entries = 7\n[server]\nidle_timeout = '1s'").unwrap();
    assert_eq!(
        new.needs_restart(&old),
        ["server", "cache.max_bytes, cache.max_entries"]
    );
    assert!(old.needs_restart(&old).is_empty());
}
