//! The validated configuration.
//!
//! [`Config::load`] merges the layers ([`layers`]), reads them as written (`file`) and
//! builds each room's policy from them (`build`). It reports all problems, not just the
//! first. After that nothing is validated again. A [`Config`] never changes; a reload
//! makes a new one ([`reload`]).

mod build;
mod check;
mod file;
pub mod layers;
pub mod reload;
#[cfg(test)]
mod tests;

use tracing_subscriber::filter::Targets;

use crate::{admin, gateway, server};
use check::Check;
use file::ConfigFile;
pub use file::LogFormat;
use layers::{Layers, Problem, Sources};

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listeners for skills, and the limits of connections.
    pub server: server::Policy,
    /// The listener for operators.
    pub admin: admin::Policy,
    /// The pipeline and the rooms that a request passes.
    pub gateway: gateway::Policy,
    /// The log.
    pub log: LogPolicy,
    /// The merged layers as written, to print and to compare.
    file: ConfigFile,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogPolicy {
    /// The form of a line.
    pub format: LogFormat,
    /// The least severe level of each module.
    pub level: Targets,
}

impl Config {
    /// Merges, reads and validates.
    ///
    /// # Errors
    /// Every problem, in the order of the file's lines.
    pub fn load(sources: &Sources<'_>) -> Result<Self, Vec<Problem>> {
        let (layers, mut problems) = Layers::merge(sources);
        let (file, layers, misfits) = ConfigFile::read(layers);
        problems.extend(misfits);
        let Some(file) = file else {
            return Err(problems);
        };
        let mut check = Check::new(layers, problems);
        let config = Self {
            server: build::server(&mut check, &file),
            admin: build::admin(&file),
            gateway: build::gateway(&mut check, &file),
            log: LogPolicy {
                format: file.log.format,
                level: build::log_level(&mut check, &file.log.level),
            },
            file,
        };
        let problems = check.into_problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(problems)
        }
    }

    /// The effective configuration, as a file that loads to the same.
    #[must_use]
    pub fn effective(&self) -> String {
        toml::to_string_pretty(&self.file).unwrap_or_default()
    }

    /// The sections that differ from `old` and take effect only after a restart.
    #[must_use]
    pub fn needs_restart(&self, old: &Self) -> Vec<&'static str> {
        let (new_client, old_client) =
            (&self.gateway.upstream.client, &old.gateway.upstream.client);
        let sections = [
            ("server", self.file.server != old.file.server),
            ("admin", self.file.admin != old.file.admin),
            (
                "cache.max_bytes, cache.max_entries",
                self.gateway.cache != old.gateway.cache,
            ),
            ("upstream.tls", new_client.tls != old_client.tls),
            (
                "upstream.connect_timeout",
                new_client.connect_timeout != old_client.connect_timeout,
            ),
            (
                "upstream.pool_*",
                new_client.pool_idle_timeout != old_client.pool_idle_timeout
                    || new_client.pool_max_idle_per_host != old_client.pool_max_idle_per_host,
            ),
            ("log", self.file.log != old.file.log),
        ];
        sections
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| name)
            .collect()
    }
}
