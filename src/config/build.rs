//! Builds the rooms' policies from the file's values.
//!
//! One function per section or room. Each key is checked where its value is used.

mod limits;
mod routes;
mod server;
mod upstream;

use std::time::Duration;

use tracing_subscriber::filter::Targets;

use super::check::Check;
use super::file::{self, ConfigFile};
use crate::cache::Capacity;
use crate::coalesce;
use crate::gateway::{self, DeadlinePolicy};
pub(super) use server::{admin, server};

/// Alexa waits about this long for the response of a skill.
const MAX_DEADLINE: Duration = Duration::from_secs(8);

pub(super) fn gateway(check: &mut Check, file: &ConfigFile) -> gateway::Policy {
    gateway::Policy {
        routes: routes::table(check, file),
        deadline: deadline(check, file.deadline),
        max_discarded_body_bytes: file.server.max_discarded_body_bytes,
        log_requests: file.log.requests,
        cache: capacity(check, &file.cache),
        coalesce: waiters(check, file.coalesce),
        limits: limits::limits(check, &file.limits),
        upstream: upstream::upstream(check, file),
    }
}

pub(super) fn log_level(check: &mut Check, level: &str) -> Targets {
    level.parse().unwrap_or_else(|_| {
        let message = "must be error, warn, info, debug, trace, or target=level,...";
        check.problem("log.level", message);
        Targets::default()
    })
}

fn deadline(check: &mut Check, deadline: DeadlinePolicy) -> DeadlinePolicy {
    let DeadlinePolicy { default, max } = deadline;
    check.timeout("deadline.default", default);
    check.ensure(
        default <= max,
        "deadline.default",
        "must be at most deadline.max",
    );
    check.ensure(
        max <= MAX_DEADLINE,
        "deadline.max",
        "must be at most 8s, because Alexa waits no longer",
    );
    deadline
}

fn capacity(check: &mut Check, cache: &file::Cache) -> Capacity {
    let message = "must be at least 1; use ttl = \"0s\" to store nothing";
    check.ensure(cache.max_bytes > 0, "cache.max_bytes", message);
    check.ensure(cache.max_entries > 0, "cache.max_entries", message);
    Capacity {
        max_bytes: cache.max_bytes,
        max_entries: cache.max_entries,
    }
}

fn waiters(check: &mut Check, waiters: coalesce::Policy) -> coalesce::Policy {
    let per_key = waiters.max_waiters_per_key;
    check.at_least("coalesce.max_waiters_per_key", per_key, 1);
    check.at_least("coalesce.max_waiters", waiters.max_waiters, 1);
    waiters
}
