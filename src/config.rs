//! The configuration as it is meant: validated once, then never again.
//!
//! [`Config::load`] merges the layers ([`layers`]), reads them (`file`) and
//! turns them into the values that the rooms work with. Every problem is found
//! before the first is told. A [`Config`] never changes; a reload makes a new one
//! ([`reload`]).

mod file;
pub mod layers;
pub mod reload;
mod validate;

use std::time::Duration;

use tracing_subscriber::filter::Targets;

use crate::{admin, gateway, server};
use file::ConfigFile;
pub use file::LogFormat;
use layers::{Layers, Problem, Sources};
use validate::Check;

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where skills are served, and how connections are treated.
    pub server: server::Policy,
    /// Where operators are served.
    pub admin: admin::Policy,
    /// What requests keep to.
    pub gateway: gateway::Policy,
    /// How the log is written.
    pub log: LogPolicy,
    /// Everything as written, to print and to compare.
    file: ConfigFile,
}

/// How the log is written.
#[derive(Clone, Debug)]
pub struct LogPolicy {
    /// The form of a line.
    pub format: LogFormat,
    /// What is logged.
    pub level: Targets,
}

impl Config {
    /// Merges, reads and validates.
    ///
    /// # Errors
    /// Every problem there is, in the order of the file's lines.
    pub fn load(sources: &Sources<'_>) -> Result<Self, Vec<Problem>> {
        let (layers, mut problems) = Layers::merge(sources);
        let (file, layers, unfit) = ConfigFile::read(layers);
        problems.extend(unfit);
        let Some(file) = file else {
            return Err(problems);
        };
        let mut check = Check { layers, problems };
        let config = Self {
            server: server(&file),
            admin: admin::Policy {
                address: file.admin.enabled.then_some(file.admin.address),
            },
            gateway: check.gateway(&file),
            log: LogPolicy {
                format: file.log.format,
                level: check.log_level(&file),
            },
            file,
        };
        check.ranges(&config.file);
        let mut problems = check.problems;
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        match problems.is_empty() {
            true => Ok(config),
            false => Err(problems),
        }
    }

    /// The effective configuration, as a file that would make it.
    #[must_use]
    pub fn effective(&self) -> String {
        toml::to_string_pretty(&self.file).unwrap_or_default()
    }

    /// The sections in which `self` differs from `old` and that only a restart
    /// applies.
    #[must_use]
    pub fn needs_restart(&self, old: &Self) -> Vec<&'static str> {
        let (new, old) = (&self.file, &old.file);
        let cache = |file: &ConfigFile| (file.cache.max_bytes, file.cache.max_entries);
        let sections = [
            ("server", new.server != old.server),
            ("admin", new.admin != old.admin),
            (
                "cache.max_bytes, cache.max_entries",
                cache(new) != cache(old),
            ),
            ("upstream.tls", new.upstream.tls != old.upstream.tls),
            (
                "upstream.connect_timeout",
                new.upstream.connect_timeout != old.upstream.connect_timeout,
            ),
            ("upstream.pool_*", pool(new) != pool(old)),
            ("log", new.log != old.log),
        ];
        sections
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name)
            .collect()
    }
}

fn server(file: &ConfigFile) -> server::Policy {
    let server = &file.server;
    server::Policy {
        listeners: server.listeners.clone(),
        max_connections: server.max_connections,
        timeouts: server::Timeouts {
            request_head: server.request_head_timeout,
            idle: server.idle_timeout,
            write: file.passthrough.body_idle_timeout,
            drain: server.drain_timeout,
        },
    }
}

fn pool(file: &ConfigFile) -> (Duration, usize) {
    (
        file.upstream.pool_idle_timeout,
        file.upstream.pool_max_idle_per_host,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Region;

    fn load(text: &str) -> Result<Config, Vec<String>> {
        let sources = Sources {
            file: Some(("g.toml", text)),
            environment: &[],
        };
        Config::load(&sources)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_defaults_are_valid_and_so_is_the_example() {
        let config = load("").unwrap();
        assert_eq!(config.gateway.routes.rules().len(), 12);
        assert_eq!(config.gateway.deadline.default, Duration::from_millis(2500));
        let example = load(include_str!("../config/example.toml")).unwrap();
        assert_eq!(
            example.gateway.limits.profile.skill.unwrap().requests.get(),
            20
        );
    }

    #[test]
    fn the_effective_configuration_makes_itself() {
        let config = load("[cache.templates.person_name]\nttl = '3s'\n[limits.profile]\nskill = { requests = 5, per = '1s' }").unwrap();
        assert_eq!(load(&config.effective()).unwrap().file, config.file);
    }

    #[test]
    fn every_problem_is_found_at_once_with_its_line() {
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
    fn a_breaker_or_a_budget_that_makes_no_sense_is_refused_with_the_reason() {
        let problems = load(
            "[retry]\nbudget_percent = 101\nbudget_min_per_second = 10001\n[breaker]\n\
             consecutive_failures = 0\nmin_success_percent = 101\nmin_requests = 0\n\
             window = '99ms'\nopen = '3s'\nmax_open = '25h'\n",
        )
        .unwrap_err();
        for (problem, expected) in problems.iter().zip([
            "2: retry.budget_percent: at most 100",
            "3: retry.budget_min_per_second: at most 10000",
            "5: breaker.consecutive_failures: ",
            "6: breaker.min_success_percent: at most 100",
            "7: breaker.min_requests: ",
            "8: breaker.window: at least 100ms",
            "10: breaker.max_open: at most 24h",
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
            ["g.toml:2: breaker.open: at most breaker.max_open"]
        );
    }

    #[test]
    fn skills_have_limits_of_their_own_and_every_problem_of_theirs_is_told() {
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
        assert!(
            config.gateway.limits.profile.adaptive && !config.gateway.limits.passthrough.adaptive
        );

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
    fn listeners_are_addresses_tables_or_one_string() {
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
    fn what_only_a_restart_applies_is_named() {
        let old = load("").unwrap();
        let new =
            load("[cache]\nttl = '1s'\nmax_entries = 7\n[server]\nidle_timeout = '1s'").unwrap();
        assert_eq!(
            new.needs_restart(&old),
            ["server", "cache.max_bytes, cache.max_entries"]
        );
        assert!(old.needs_restart(&old).is_empty());
    }
}
