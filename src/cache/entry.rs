//! One stored answer, and the spans for which it is good.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Lifetime;
use crate::answer::Answer;

/// A stored answer. Never changed once made.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The answer, as it is sent.
    pub answer: Arc<Answer>,
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
        let headers = self.answer.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.as_str().len() + value.len() + PER_HEADER_BYTES)
            .sum();
        let bytes = self.answer.body.len() + headers + PER_ENTRY_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What the containers around an entry take: key, node, counters and pointers of
/// the store, and the entry itself.
const PER_ENTRY_BYTES: usize = 512;

/// What a header takes in a map beyond its text.
const PER_HEADER_BYTES: usize = 104;
