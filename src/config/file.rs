//! The configuration as written: one type per section, without validation.
//!
//! `config/default.toml` documents the keys; the types here give them their shape. A
//! value of the wrong type, or an unknown key, is a [`Problem`] with its line. All are
//! reported, not just the first.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use toml::Value;

use super::layers::{Layers, Problem};
use crate::coalesce;
use crate::gateway::DeadlinePolicy;
use crate::limits::Quota;
use crate::region::Region;
use crate::server::ListenAddress;
use crate::upstream::RelayPolicy;
use crate::upstream::breaker;
use crate::upstream::client::Tls;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) server: Server,
    pub(super) admin: Admin,
    pub(super) routing: Routing,
    pub(super) regions: Regions,
    pub(super) deadline: DeadlinePolicy,
    pub(super) cache: Cache,
    pub(super) coalesce: coalesce::Policy,
    pub(super) limits: Limits,
    pub(super) upstream: Upstream,
    pub(super) retry: Retry,
    pub(super) breaker: breaker::Policy,
    pub(super) passthrough: RelayPolicy,
    pub(super) log: Log,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    #[serde(deserialize_with = "one_or_many_listeners")]
    pub(super) listeners: Vec<ListenAddress>,
    pub(super) max_connections: NonZeroUsize,
    #[serde(with = "crate::duration")]
    pub(super) request_head_timeout: Duration,
    #[serde(with = "crate::duration")]
    pub(super) idle_timeout: Duration,
    pub(super) max_discarded_body_bytes: usize,
    #[serde(with = "crate::duration")]
    pub(super) drain_timeout: Duration,
}

/// `[admin]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) enabled: bool,
    pub(super) address: SocketAddr,
}

/// `[routing]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Routing {
    pub(super) default_region: Region,
}

/// `[regions]`: exactly the three that exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Regions {
    pub(super) na: RegionFile,
    pub(super) eu: RegionFile,
    pub(super) fe: RegionFile,
}

impl Regions {
    /// The section of one region.
    #[must_use]
    pub(super) fn get(&self, region: Region) -> &RegionFile {
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
pub(super) struct RegionFile {
    pub(super) upstream: String,
    pub(super) aliases: Vec<String>,
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    pub(super) max_bytes: u64,
    pub(super) max_entries: u64,
    #[serde(with = "crate::duration")]
    pub(super) ttl: Duration,
    #[serde(with = "crate::duration")]
    pub(super) no_content_ttl: Duration,
    #[serde(with = "crate::duration")]
    pub(super) expiry_margin: Duration,
    pub(super) respect_no_store: bool,
    #[serde(with = "crate::duration")]
    pub(super) stale_while_revalidate: Duration,
    #[serde(with = "crate::duration")]
    pub(super) stale_if_error: Duration,
    pub(super) templates: BTreeMap<String, Template>,
}

/// `[cache.templates.*]`; absent keys default to those of `[cache]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    pub(super) path: String,
    #[serde(default = "enabled")]
    pub(super) enabled: bool,
    #[serde(
        default,
        with = "crate::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) ttl: Option<Duration>,
    #[serde(
        default,
        with = "crate::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) stale_while_revalidate: Option<Duration>,
    #[serde(
        default,
        with = "crate::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) stale_if_error: Option<Duration>,
}

fn enabled() -> bool {
    true
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) max_queue: usize,
    pub(super) max_skills: usize,
    pub(super) profile: FamilyLimits,
    pub(super) passthrough: FamilyLimits,
}

/// `[limits.profile]`, `[limits.passthrough]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FamilyLimits {
    pub(super) adaptive: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<Quota>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) skill: Option<Quota>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) skills: BTreeMap<String, SkillLimits>,
}

/// `[limits.*.skills."SKILL"]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SkillLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<Quota>,
    #[serde(default = "one")]
    pub(super) weight: u32,
    #[serde(default)]
    pub(super) floor: u32,
}

fn one() -> u32 {
    1
}

/// `[upstream]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    #[serde(with = "crate::duration")]
    pub(super) connect_timeout: Duration,
    #[serde(with = "crate::duration")]
    pub(super) answer_timeout: Duration,
    #[serde(with = "crate::duration")]
    pub(super) pool_idle_timeout: Duration,
    pub(super) pool_max_idle_per_host: usize,
    pub(super) max_answer_bytes: usize,
    pub(super) tls: Tls,
}

/// `[retry]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    pub(super) max_attempts: NonZeroU32,
    #[serde(with = "crate::duration")]
    pub(super) base_backoff: Duration,
    #[serde(with = "crate::duration")]
    pub(super) max_backoff: Duration,
    pub(super) budget_percent: u32,
    pub(super) budget_min_per_second: u32,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: LogFormat,
    pub(super) level: String,
    pub(super) requests: bool,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

impl ConfigFile {
    /// Reads the merged layers. A value that does not fit is reported and replaced by
    /// its default, so that the rest is read as well.
    #[must_use]
    pub(super) fn read(mut layers: Layers) -> (Option<Self>, Layers, Vec<Problem>) {
        let mut problems = Vec::new();
        loop {
            let table = Value::Table(layers.table().clone());
            let error = match serde_path_to_error::deserialize(table) {
                Ok(file) => return (Some(file), layers, problems),
                Err(error) => error,
            };
            let path = error.path().to_string();
            // A repair can leave a table without a required key. That follows from a
            // problem inside the table and is not reported again.
            let inside = |reported: &Problem| {
                reported
                    .path
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
            // Every repair removes a value, so the loop ends.
            if !layers.repair(&path) {
                return (None, layers, problems);
            }
        }
    }
}

/// A list of listeners, or one string with commas, for environment variables. A
/// listener is an address or a table.
fn one_or_many_listeners<'de, D: Deserializer<'de>>(de: D) -> Result<Vec<ListenAddress>, D::Error> {
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

fn listener(value: Value) -> Result<ListenAddress, String> {
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
                    "a listener must be \"address\" or {{ address, region }}: {}",
                    error.message()
                )
            })?;
            (table.address, table.region)
        }
    };
    let address = address
        .parse()
        .map_err(|_| format!("'{address}' is not an address; write it like 127.0.0.1:2780"))?;
    Ok(ListenAddress { address, region })
}
