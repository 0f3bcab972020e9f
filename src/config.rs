//! The configuration as it is meant: validated once, then never again.
//!
//! [`Config::load`] merges the layers ([`layers`]), reads them ([`mod@file`]) and
//! turns them into the values that the rooms work with. Every problem is found
//! before the first is told. A [`Config`] never changes; a reload makes a new one
//! ([`reload`]).

pub mod duration;
pub mod file;
pub mod layers;
pub mod reload;

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Capacity;
use crate::cache::policy::Freshness;
use crate::coalesce::WaiterLimits;
use crate::limits::Quota;
use crate::limits::{FamilyQuotas, LimitsConfig, QueueLimits};
use crate::route::path::PathTemplate;
use crate::route::{Region, RouteTable, Rule, UpstreamUrl};
use file::{ConfigFile, Quotas};
use layers::{Layers, Problem, Sources};

/// Alexa waits about so long for a skill's whole answer.
const LONGEST_DEADLINE: Duration = Duration::from_secs(8);

/// A slot is remembered one by one, so that is how many there may be.
const MOST_SLOTS: u32 = 100_000;

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Regions, names, upstreams and rules.
    pub routes: RouteTable,
    /// How much may be stored.
    pub capacity: Capacity,
    /// How many may wait for calls in flight.
    pub waiters: WaiterLimits,
    /// Quotas and queues.
    pub limits: LimitsConfig,
    /// Everything as written, for what needs no further meaning.
    pub file: ConfigFile,
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
            routes: check.routes(&file),
            capacity: Capacity {
                max_bytes: file.cache.max_bytes,
                max_entries: file.cache.max_entries,
            },
            waiters: file.coalesce,
            limits: check.limits(&file),
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

fn pool(file: &ConfigFile) -> (Duration, usize) {
    (
        file.upstream.pool_idle_timeout,
        file.upstream.pool_max_idle_per_host,
    )
}

/// Collects what is wrong while values get their meaning.
struct Check {
    layers: Layers,
    problems: Vec<Problem>,
}

impl Check {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        let origin = self.layers.origin(path).cloned();
        self.problems.push(Problem {
            origin,
            path: path.to_owned(),
            message: message.into(),
        });
    }

    fn ensure(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.problem(path, message);
        }
    }

    fn routes(&mut self, file: &ConfigFile) -> RouteTable {
        let upstreams = Region::ALL.map(|region| {
            let text = &file.regions.get(region).upstream;
            UpstreamUrl::parse(text).unwrap_or_else(|why| {
                self.problem(&format!("regions.{region}.upstream"), why);
                UpstreamUrl::of_host(region.host())
            })
        });
        let mut aliases: Vec<(String, Region)> = Vec::new();
        for region in Region::ALL {
            for (n, alias) in file.regions.get(region).aliases.iter().enumerate() {
                let path = format!("regions.{region}.aliases[{n}]");
                let is_host = !alias.is_empty()
                    && alias
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
                self.ensure(
                    is_host,
                    &path,
                    "an alias is a host name without scheme or port",
                );
                let taken = |other: &str| alias.eq_ignore_ascii_case(other);
                let elsewhere = aliases
                    .iter()
                    .any(|(other, of)| taken(other) && *of != region)
                    || Region::ALL
                        .iter()
                        .any(|other| *other != region && taken(other.host()));
                self.ensure(!elsewhere, &path, "this host already names another region");
                aliases.push((alias.clone(), region));
            }
        }
        let rules = self.rules(file);
        RouteTable::new(upstreams, aliases, file.routing.default_region, rules)
    }

    fn rules(&mut self, file: &ConfigFile) -> Vec<Arc<Rule>> {
        let cache = &file.cache;
        let mut rules = Vec::new();
        for (name, template) in &cache.templates {
            let path = match PathTemplate::parse(&template.path) {
                Ok(path) => path,
                Err(why) => {
                    self.problem(&format!("cache.templates.{name}.path"), why);
                    continue;
                }
            };
            if !template.enabled {
                continue;
            }
            rules.push(Arc::new(Rule {
                name: name.clone(),
                template: path,
                freshness: Freshness {
                    ttl: template.ttl.unwrap_or(cache.ttl),
                    no_content_ttl: cache.no_content_ttl,
                    expiry_margin: cache.expiry_margin,
                    respect_no_store: cache.respect_no_store,
                    stale_while_revalidate: template
                        .stale_while_revalidate
                        .unwrap_or(cache.stale_while_revalidate),
                    stale_if_error: template.stale_if_error.unwrap_or(cache.stale_if_error),
                },
            }));
        }
        rules
    }

    fn limits(&mut self, file: &ConfigFile) -> LimitsConfig {
        let limits = &file.limits;
        let mut family = |name: &str, quotas: &Quotas| FamilyQuotas {
            region: self.quota(&format!("limits.{name}.region"), quotas.region),
            skill: self.quota(&format!("limits.{name}.skill"), quotas.skill),
        };
        LimitsConfig {
            profile: family("profile", &limits.profile),
            passthrough: family("passthrough", &limits.passthrough),
            queue: QueueLimits {
                max_queue: limits.max_queue,
                max_skills: limits.max_skills,
            },
        }
    }

    fn quota(&mut self, path: &str, quota: Option<Quota>) -> Option<Quota> {
        if let Some(quota) = quota {
            let requests = format!("{path}.requests");
            self.ensure(
                quota.requests.get() <= MOST_SLOTS,
                &requests,
                "at most 100000; use a shorter window",
            );
            self.positive(&format!("{path}.per"), quota.per);
            let short = quota.per <= Duration::from_secs(3600);
            self.ensure(short, &format!("{path}.per"), "at most 1h");
        }
        quota
    }

    fn ranges(&mut self, file: &ConfigFile) {
        let server = &file.server;
        self.ensure(
            !server.listeners.is_empty(),
            "server.listeners",
            "at least one address is needed",
        );
        self.positive("server.request_head_timeout", server.request_head_timeout);
        self.positive("server.idle_timeout", server.idle_timeout);
        let deadline = &file.deadline;
        self.positive("deadline.default", deadline.default);
        self.ensure(
            deadline.default <= deadline.max,
            "deadline.default",
            "at most deadline.max",
        );
        let within = deadline.max <= LONGEST_DEADLINE;
        self.ensure(
            within,
            "deadline.max",
            "at most 8s, after which Alexa gives up",
        );
        self.ensure(
            file.cache.max_bytes > 0,
            "cache.max_bytes",
            "at least 1; use ttl = \"0s\" to store nothing",
        );
        self.ensure(
            file.cache.max_entries > 0,
            "cache.max_entries",
            "at least 1; use ttl = \"0s\" to store nothing",
        );
        self.ensure(
            file.coalesce.max_waiters_per_key > 0,
            "coalesce.max_waiters_per_key",
            "at least 1",
        );
        self.ensure(
            file.coalesce.max_waiters > 0,
            "coalesce.max_waiters",
            "at least 1",
        );
        self.ensure(
            file.limits.max_skills > 0,
            "limits.max_skills",
            "at least 1",
        );
        let upstream = &file.upstream;
        self.positive("upstream.connect_timeout", upstream.connect_timeout);
        self.positive("upstream.answer_timeout", upstream.answer_timeout);
        self.positive("upstream.pool_idle_timeout", upstream.pool_idle_timeout);
        self.ensure(
            file.retry.max_attempts.get() <= 10,
            "retry.max_attempts",
            "at most 10",
        );
        self.positive("retry.base_backoff", file.retry.base_backoff);
        let ordered = file.retry.base_backoff <= file.retry.max_backoff;
        self.ensure(ordered, "retry.base_backoff", "at most retry.max_backoff");
        self.positive(
            "passthrough.answer_timeout",
            file.passthrough.answer_timeout,
        );
        self.positive(
            "passthrough.body_idle_timeout",
            file.passthrough.body_idle_timeout,
        );
        let filter = file
            .log
            .level
            .parse::<tracing_subscriber::filter::Targets>();
        self.ensure(
            filter.is_ok(),
            "log.level",
            "not a level (error, warn, info, debug, trace) or a list of target=level",
        );
    }

    fn positive(&mut self, path: &str, duration: Duration) {
        self.ensure(!duration.is_zero(), path, "must be more than zero");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(config.routes.rules().len(), 12);
        assert_eq!(config.file.deadline.default, Duration::from_millis(2500));
        let example = load(include_str!("../config/example.toml")).unwrap();
        assert_eq!(example.limits.profile.skill.unwrap().requests.get(), 20);
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
    fn listeners_are_addresses_tables_or_one_string() {
        let listeners = |text: &str| {
            let config = load(&format!("[server]\nlisteners = {text}")).unwrap();
            config
                .file
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
