//! From values as written to values as meant, and every problem on the way.
//!
//! Each method answers something usable even for a bad value, so that the search
//! goes on; the problems decide whether the result is used.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::filter::Targets;

use super::file::{self, ConfigFile};
use super::layers::{Layers, Problem};
use crate::cache::Capacity;
use crate::cache::policy::Freshness;
use crate::gateway;
use crate::limits::{FamilyLimits, LimitsConfig, QueueLimits, Quota, SkillLimits};
use crate::region::Region;
use crate::route::path::PathTemplate;
use crate::route::{RouteTable, Rule, UpstreamUrl};
use crate::token::SkillId;
use crate::upstream::{self, budget, client, retry};

/// Alexa waits about so long for a skill's whole answer.
const LONGEST_DEADLINE: Duration = Duration::from_secs(8);

/// Longer than any time-out or freshness that makes sense here.
const LONGEST_SPAN: Duration = Duration::from_secs(24 * 3600);

/// The breaker's window slides in ten steps, which a clock must tell apart.
const SHORTEST_WINDOW: Duration = Duration::from_millis(100);

/// A slot is remembered one by one, so that is how many there may be.
const MOST_SLOTS: u32 = 100_000;

/// Collects what is wrong while values get their meaning.
pub(super) struct Check {
    pub(super) layers: Layers,
    pub(super) problems: Vec<Problem>,
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

    pub(super) fn gateway(&mut self, file: &ConfigFile) -> gateway::Policy {
        gateway::Policy {
            routes: self.routes(file),
            deadline: file.deadline,
            max_discarded_body_bytes: file.server.max_discarded_body_bytes,
            log_requests: file.log.requests,
            cache: Capacity {
                max_bytes: file.cache.max_bytes,
                max_entries: file.cache.max_entries,
            },
            coalesce: file.coalesce,
            limits: self.limits(file),
            upstream: upstream(file),
        }
    }

    pub(super) fn log_level(&mut self, file: &ConfigFile) -> Targets {
        file.log.level.parse().unwrap_or_else(|_| {
            let forms = "error, warn, info, debug, trace, or target=level,...";
            self.problem("log.level", forms);
            Targets::default()
        })
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
        LimitsConfig {
            profile: self.family("limits.profile", &limits.profile),
            passthrough: self.family("limits.passthrough", &limits.passthrough),
            queue: QueueLimits {
                max_queue: limits.max_queue,
                max_skills: limits.max_skills,
            },
        }
    }

    fn family(&mut self, path: &str, limits: &file::FamilyLimits) -> FamilyLimits {
        let region = self.quota(&format!("{path}.region"), limits.region);
        let mut skills = BTreeMap::new();
        let mut floors = 0;
        for (id, own) in &limits.skills {
            let path = format!("{path}.skills.{id}");
            let skill = SkillId::parse(id);
            let shape = "a skill is named by its whole id in quotes, \"amzn1.ask.skill.…\"";
            self.ensure(skill.is_some(), &path, shape);
            self.ensure(
                (1..=1000).contains(&own.weight),
                &format!("{path}.weight"),
                "from 1 to 1000",
            );
            floors += u64::from(own.floor);
            let of_region = region.map_or(0, |region| u64::from(region.requests.get()));
            let floor = format!("{path}.floor");
            match region {
                None => self.ensure(
                    own.floor == 0,
                    &floor,
                    "a floor is a part of the region's quota, and there is none",
                ),
                Some(_) => self.ensure(
                    floors < of_region || own.floor == 0,
                    &floor,
                    "all floors together leave nothing of the region's quota to others",
                ),
            }
            let quota = self.quota(&format!("{path}.quota"), own.quota);
            let own = SkillLimits {
                quota,
                weight: own.weight,
                floor: own.floor,
            };
            skills.extend(skill.map(|skill| (skill, own)));
        }
        FamilyLimits {
            adaptive: limits.adaptive,
            region,
            skill: self.quota(&format!("{path}.skill"), limits.skill),
            skills: Arc::new(skills),
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
            self.ensure(
                quota.burst.is_none_or(|burst| burst <= quota.requests),
                &format!("{path}.burst"),
                "at most requests: a burst is a part of them",
            );
        }
        quota
    }

    pub(super) fn ranges(&mut self, file: &ConfigFile) {
        self.spans(file);
        let (deadline, cache, coalesce) = (&file.deadline, &file.cache, &file.coalesce);
        let breaker = &file.breaker;
        let to_store_nothing = "at least 1; use ttl = \"0s\" to store nothing";
        let ordered = file.retry.base_backoff <= file.retry.max_backoff;
        let mut addresses: Vec<SocketAddr> =
            file.server.listeners.iter().map(|l| l.address).collect();
        addresses.extend(Some(file.admin.address).filter(|_| file.admin.enabled));
        let once = |(n, address): (usize, &SocketAddr)| {
            address.port() == 0 || !addresses[..n].contains(address)
        };
        let distinct = addresses.iter().enumerate().all(once);
        for (holds, path, message) in [
            (
                distinct,
                "server.listeners",
                "an address is listed twice, or is admin.address",
            ),
            (
                !file.server.listeners.is_empty(),
                "server.listeners",
                "needs at least one address",
            ),
            (
                deadline.default <= deadline.max,
                "deadline.default",
                "at most deadline.max",
            ),
            (
                deadline.max <= LONGEST_DEADLINE,
                "deadline.max",
                "at most 8s: Alexa gives up then",
            ),
            (cache.max_bytes > 0, "cache.max_bytes", to_store_nothing),
            (cache.max_entries > 0, "cache.max_entries", to_store_nothing),
            (
                coalesce.max_waiters_per_key > 0,
                "coalesce.max_waiters_per_key",
                "at least 1",
            ),
            (
                coalesce.max_waiters > 0,
                "coalesce.max_waiters",
                "at least 1",
            ),
            (
                file.limits.max_skills > 0,
                "limits.max_skills",
                "at least 1",
            ),
            (
                file.retry.max_attempts.get() <= 10,
                "retry.max_attempts",
                "at most 10",
            ),
            (
                file.retry.budget_percent <= 100,
                "retry.budget_percent",
                "at most 100",
            ),
            (
                file.retry.budget_min_per_second <= 10_000,
                "retry.budget_min_per_second",
                "at most 10000",
            ),
            (
                breaker.min_success_percent <= 100,
                "breaker.min_success_percent",
                "at most 100",
            ),
            (
                breaker.window >= SHORTEST_WINDOW,
                "breaker.window",
                "at least 100ms",
            ),
            (
                breaker.open <= breaker.max_open,
                "breaker.open",
                "at most breaker.max_open",
            ),
            (ordered, "retry.base_backoff", "at most retry.max_backoff"),
        ] {
            self.ensure(holds, path, message);
        }
    }

    /// Every duration that is not judged elsewhere: those that must be more than
    /// zero, and those that may be zero. A day is more than anybody means.
    fn spans(&mut self, file: &ConfigFile) {
        let (server, upstream, cache) = (&file.server, &file.upstream, &file.cache);
        let positive = [
            ("server.request_head_timeout", server.request_head_timeout),
            ("server.idle_timeout", server.idle_timeout),
            ("deadline.default", file.deadline.default),
            ("upstream.connect_timeout", upstream.connect_timeout),
            ("upstream.answer_timeout", upstream.answer_timeout),
            ("upstream.pool_idle_timeout", upstream.pool_idle_timeout),
            ("retry.base_backoff", file.retry.base_backoff),
            ("breaker.open", file.breaker.open),
            (
                "passthrough.answer_timeout",
                file.passthrough.answer_timeout,
            ),
            (
                "passthrough.body_idle_timeout",
                file.passthrough.body_idle_timeout,
            ),
        ];
        let any = [
            ("server.drain_timeout", server.drain_timeout),
            ("cache.ttl", cache.ttl),
            ("cache.no_content_ttl", cache.no_content_ttl),
            ("cache.expiry_margin", cache.expiry_margin),
            ("cache.stale_while_revalidate", cache.stale_while_revalidate),
            ("cache.stale_if_error", cache.stale_if_error),
            ("retry.max_backoff", file.retry.max_backoff),
            ("breaker.window", file.breaker.window),
            ("breaker.max_open", file.breaker.max_open),
        ];
        for (path, span) in positive {
            self.positive(path, span);
        }
        for (path, span) in positive.into_iter().chain(any) {
            self.ensure(span <= LONGEST_SPAN, path, "at most 24h");
        }
        for (name, template) in &cache.templates {
            for (key, span) in [
                ("ttl", template.ttl),
                ("stale_while_revalidate", template.stale_while_revalidate),
                ("stale_if_error", template.stale_if_error),
            ] {
                let path = format!("cache.templates.{name}.{key}");
                self.ensure(
                    span.unwrap_or_default() <= LONGEST_SPAN,
                    &path,
                    "at most 24h",
                );
            }
        }
    }

    fn positive(&mut self, path: &str, duration: Duration) {
        self.ensure(!duration.is_zero(), path, "must be more than zero");
    }
}

fn upstream(file: &ConfigFile) -> upstream::Policy {
    let (upstream, retry) = (&file.upstream, &file.retry);
    upstream::Policy {
        client: client::Policy {
            connect_timeout: upstream.connect_timeout,
            pool_idle_timeout: upstream.pool_idle_timeout,
            pool_max_idle_per_host: upstream.pool_max_idle_per_host,
            tls: upstream.tls.clone(),
        },
        fetch: upstream::FetchPolicy {
            answer_timeout: upstream.answer_timeout,
            max_answer_bytes: upstream.max_answer_bytes,
        },
        relay: file.passthrough,
        retry: retry::Policy {
            max_attempts: retry.max_attempts,
            base_backoff: retry.base_backoff,
            max_backoff: retry.max_backoff,
        },
        budget: budget::Policy {
            percent: retry.budget_percent,
            min_per_second: retry.budget_min_per_second,
        },
        breaker: file.breaker,
    }
}
