//! Durations as people write them (`10s`, `1500ms`, `1m 30s`), for serde.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer, de};

/// Reads a duration.
///
/// # Errors
/// The value is not a string, or not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|_| {
        de::Error::custom(format!(
            "'{text}' is not a duration; write it like 10s or 1500ms"
        ))
    })
}

/// Writes a duration.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// The same for a duration that may be absent.
pub mod option {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Reads a duration that is there.
    ///
    /// # Errors
    /// As [`super::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(de: D) -> Result<Option<Duration>, D::Error> {
        super::deserialize(de).map(Some)
    }

    /// Writes a duration; an absent one is left out by the caller.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, ser: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => super::serialize(duration, ser),
            None => ser.serialize_none(),
        }
    }
}
