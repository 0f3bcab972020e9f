//! One stored answer, and the spans for which it is good.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Lifetime;
use crate::cache::response::StoredResponse;

/// A stored answer. Never changed once made.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The answer, as it is sent.
    pub answer: StoredResponse,
    /// When it was stored.
    stored_at: Instant,
    /// How long it is good for what, in the order of [`Lifetime`], in nanoseconds:
    /// half the room that four durations take.
    lifetime: [u64; 4],
    /// When its token expires, in seconds since the Unix epoch. Checked against
    /// the wall clock at every use: a frozen process does not age in between.
    expires_at: Option<NonZeroU64>,
}

impl Entry {
    /// Stores an answer now, for a token that expires at so many seconds since the Unix
    /// epoch.
    #[must_use]
    pub fn new(answer: StoredResponse, lifetime: Lifetime, expires_at: Option<u64>) -> Self {
        let nanoseconds = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let Lifetime {
            initial_age,
            fresh,
            while_revalidate,
            if_error,
        } = lifetime;
        Self {
            answer,
            stored_at: Instant::now(),
            lifetime: [initial_age, fresh, while_revalidate, if_error].map(nanoseconds),
            // What expires with the epoch itself has expired a second later as well.
            expires_at: expires_at.and_then(|at| NonZeroU64::new(at.max(1))),
        }
    }

    /// How long it is good for what.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        let spans = self.lifetime.map(Duration::from_nanos);
        let [initial_age, fresh, while_revalidate, if_error] = spans;
        Lifetime {
            initial_age,
            fresh,
            while_revalidate,
            if_error,
        }
    }

    /// Whether its token has expired, at so many seconds since the Unix epoch.
    #[must_use]
    pub fn has_expired(&self, unix_seconds: u64) -> bool {
        self.expires_at.is_some_and(|at| unix_seconds >= at.get())
    }

    /// When it was stored.
    #[must_use]
    pub fn stored_at(&self) -> Instant {
        self.stored_at
    }

    /// How long it has been stored.
    #[must_use]
    pub fn resident(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored_at)
    }

    /// Its age in the sense of RFC 9111 §4.2.3.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.lifetime()
            .initial_age
            .saturating_add(self.resident(now))
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let bytes = self.answer.heap_bytes() + PER_ENTRY_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What an entry takes beyond what is in its answer: the entry itself, its place in the
/// table, and the hints of its token. Measured with a million of them
/// (`benches/peers/run entries`).
const PER_ENTRY_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_its_counts_takes_128_bytes() {
        // What is one byte more is rounded up to 160 by the allocator.
        assert!(size_of::<Entry>() + 2 * size_of::<usize>() <= 128);
    }
}
