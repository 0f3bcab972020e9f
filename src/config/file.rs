//! The configuration as it is written: one type per section, and nothing judged.
//!
//! `config/default.toml` has every key with its reason; the types here give them
//! their shape. A value that no shape fits, or a key that does not exist, is a
//! [`Problem`] with its place; all are found before the first is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use toml::Value;

use super::duration;
use super::layers::{Layers, Problem};
use crate::coalesce::WaiterLimits;
use crate::limits::Quota;
use crate::region::Region;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct ConfigFile {
    pub server: Server,
    pub admin: Admin,
    pub routing: Routing,
    pub regions: Regions,
    pub deadline: Deadline,
    pub cache: Cache,
    pub coalesce: WaiterLimits,
    pub limits: Limits,
    pub upstream: Upstream,
    pub retry: Retry,
    pub breaker: Breaker,
    pub passthrough: Passthrough,
    pub log: Log,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Server {
    #[serde(deserialize_with = "one_or_many_listeners")]
    pub listeners: Vec<Listener>,
    pub max_connections: NonZeroUsize,
    #[serde(with = "duration")]
    pub request_head_timeout: Duration,
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    pub max_discarded_body_bytes: usize,
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
}

/// One address to listen at, and the region that all its calls go to, if one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// The address; port 0 picks a free one.
    pub address: SocketAddr,
    /// The region that calls to this listener are for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// `[admin]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Admin {
    pub enabled: bool,
    pub address: SocketAddr,
}

/// `[routing]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Routing {
    pub default_region: Region,
}

/// `[regions]`: exactly the three that exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Regions {
    pub na: RegionFile,
    pub eu: RegionFile,
    pub fe: RegionFile,
}

impl Regions {
    /// The section of one region.
    #[must_use]
    pub fn get(&self, region: Region) -> &RegionFile {
        match region {
            Region::Na => &self.na,
            Region::Eu => &self.eu,
            Region::Fe => &self.fe,
        }
    }
}

/// `[regions.*]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct RegionFile {
    pub upstream: String,
    pub aliases: Vec<String>,
}

/// `[deadline]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Deadline {
    #[serde(with = "duration")]
    pub default: Duration,
    #[serde(with = "duration")]
    pub max: Duration,
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Cache {
    pub max_bytes: u64,
    pub max_entries: u64,
    #[serde(with = "duration")]
    pub ttl: Duration,
    #[serde(with = "duration")]
    pub no_content_ttl: Duration,
    #[serde(with = "duration")]
    pub expiry_margin: Duration,
    pub respect_no_store: bool,
    #[serde(with = "duration")]
    pub stale_while_revalidate: Duration,
    #[serde(with = "duration")]
    pub stale_if_error: Duration,
    pub templates: BTreeMap<String, Template>,
}

/// `[cache.templates.*]`; what is absent is as in `[cache]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Template {
    pub path: String,
    #[serde(default = "enabled")]
    pub enabled: bool,
    #[serde(
        default,
        with = "duration::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub ttl: Option<Duration>,
    #[serde(
        default,
        with = "duration::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub stale_while_revalidate: Option<Duration>,
    #[serde(
        default,
        with = "duration::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub stale_if_error: Option<Duration>,
}

fn enabled() -> bool {
    true
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Limits {
    pub max_queue: usize,
    pub max_skills: usize,
    pub profile: FamilyLimits,
    pub passthrough: FamilyLimits,
}

/// `[limits.profile]`, `[limits.passthrough]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct FamilyLimits {
    pub adaptive: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Quota>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skill: Option<Quota>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skills: BTreeMap<String, SkillLimits>,
}

/// `[limits.*.skills."SKILL"]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct SkillLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    #[serde(default = "one")]
    pub weight: u32,
    #[serde(default)]
    pub floor: u32,
}

fn one() -> u32 {
    1
}

/// `[upstream]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Upstream {
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    #[serde(with = "duration")]
    pub answer_timeout: Duration,
    #[serde(with = "duration")]
    pub pool_idle_timeout: Duration,
    pub pool_max_idle_per_host: usize,
    pub max_answer_bytes: usize,
    pub tls: Tls,
}

/// `[upstream.tls]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Tls {
    pub roots: Roots,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_ca_file: Option<PathBuf>,
}

/// Which certificate authorities are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Roots {
    /// Those of the operating system.
    Os,
    /// Mozilla's list, compiled in.
    Bundled,
}

/// `[retry]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Retry {
    pub max_attempts: NonZeroU32,
    #[serde(with = "duration")]
    pub base_backoff: Duration,
    #[serde(with = "duration")]
    pub max_backoff: Duration,
    pub budget_percent: u32,
    pub budget_min_per_second: u32,
}

/// `[breaker]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Breaker {
    pub enabled: bool,
    pub consecutive_failures: NonZeroU32,
    pub min_success_percent: u32,
    pub min_requests: NonZeroU32,
    #[serde(with = "duration")]
    pub window: Duration,
    #[serde(with = "duration")]
    pub open: Duration,
    #[serde(with = "duration")]
    pub max_open: Duration,
}

/// `[passthrough]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Passthrough {
    #[serde(with = "duration")]
    pub answer_timeout: Duration,
    #[serde(with = "duration")]
    pub body_idle_timeout: Duration,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml says what each key means")]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
    pub requests: bool,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl ConfigFile {
    /// Reads the merged layers. What does not fit is reported and takes its
    /// default, so that everything else is still looked at.
    #[must_use]
    pub fn read(mut layers: Layers) -> (Option<Self>, Layers, Vec<Problem>) {
        let mut problems = Vec::new();
        loop {
            let table = Value::Table(layers.table().clone());
            let error = match serde_path_to_error::deserialize(table) {
                Ok(file) => return (Some(file), layers, problems),
                Err(error) => error,
            };
            let path = error.path().to_string();
            // A table that lacks what was just taken out of it is no news.
            let inside = |told: &Problem| {
                told.path
                    .strip_prefix(&path)
                    .is_some_and(|rest| rest.starts_with('.'))
            };
            if !problems.iter().any(inside) {
                problems.push(Problem {
                    origin: layers.origin(&path).cloned(),
                    message: error.inner().message().trim().to_owned(),
                    path: path.clone(),
                });
            }
            // Every repair takes a value away, so this comes to an end.
            if !layers.repair(&path) {
                return (None, layers, problems);
            }
        }
    }
}

/// A listener is an address, or a table; a list of them may be one string with
/// commas, as an environment variable would write it.
fn one_or_many_listeners<'de, D: Deserializer<'de>>(de: D) -> Result<Vec<Listener>, D::Error> {
    let items = match Value::deserialize(de)? {
        Value::Array(items) => items,
        Value::String(text) => text
            .split(',')
            .map(|a| Value::String(a.trim().to_owned()))
            .collect(),
        other => vec![other],
    };
    items
        .into_iter()
        .map(|item| listener(item).map_err(de::Error::custom))
        .collect()
}

fn listener(value: Value) -> Result<Listener, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct AsTable {
        address: String,
        region: Option<Region>,
    }
    let (address, region) = match value {
        Value::String(address) => (address, None),
        table => {
            let table: AsTable = table.try_into().map_err(|error: toml::de::Error| {
                format!(
                    "a listener is \"address\" or {{ address, region }}: {}",
                    error.message()
                )
            })?;
            (table.address, table.region)
        }
    };
    let address = address
        .parse()
        .map_err(|_| format!("'{address}' is not an address; write it like 127.0.0.1:2780"))?;
    Ok(Listener { address, region })
}
