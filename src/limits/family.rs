//! The two families of calls. Each has its own quotas and its own queue.

use serde::Serialize;
use strum::IntoStaticStr;

/// Calls that share quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Family {
    /// GETs of the cached templates.
    Profile,
    /// Everything else.
    Passthrough,
}

impl Family {
    /// Both families, in the order of their declaration.
    pub const ALL: [Self; 2] = [Self::Profile, Self::Passthrough];

    /// The name in configuration, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}
