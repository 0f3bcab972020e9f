//! One stored answer: bytes, and the spans for which they are good.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::policy::Lifetime;

/// One whole answer, as it is kept and as it is sent. Never changed once made.
#[derive(Clone)]
pub struct Entry {
    /// The status upstream gave.
    pub status: StatusCode,
    /// The end-to-end headers, ready to be sent.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// When it was stored.
    pub stored_at: Instant,
    /// How long it is good for what.
    pub lifetime: Lifetime,
    /// When its token expires, in seconds since the Unix epoch. Checked against
    /// the wall clock at every use: a frozen process does not age in between.
    pub expires_at: Option<u64>,
}

impl Entry {
    /// How long it has been stored.
    #[must_use]
    pub fn resident(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored_at)
    }

    /// Its age in the sense of RFC 9111 §4.2.3.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.lifetime.initial_age.saturating_add(self.resident(now))
    }

    /// About how much memory it takes, in bytes.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + PER_HEADER_BYTES)
            .sum();
        let bytes = self.body.len() + headers + PER_ENTRY_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl std::fmt::Debug for Entry {
    /// Without body and headers, which are personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// What the containers around an entry take: key, node, counters and pointers of
/// the store, and the entry itself.
const PER_ENTRY_BYTES: usize = 512;

/// What a header takes in a map beyond its text.
const PER_HEADER_BYTES: usize = 104;
