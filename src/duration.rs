//! Durations as people write them, `10s` or `1m 30s`, for `#[serde(with)]`.
//!
//! humantime-serde reads and writes them; an error also shows how to write one.

use serde::{Deserialize, Deserializer, de};

pub use humantime_serde::serialize;

/// Reads a [`Duration`](std::time::Duration), or an `Option` of one.
///
/// # Errors
/// The value is not a duration in a string.
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    humantime_serde::Serde<T>: Deserialize<'de>,
    D: Deserializer<'de>,
{
    humantime_serde::deserialize(deserializer).map_err(|error| {
        let error = error.to_string();
        de::Error::custom(format_args!(
            "{}; write it like 10s or 1500ms",
            error.trim()
        ))
    })
}
