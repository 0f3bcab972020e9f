//! One stored response and its lifetime.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::Lifetime;
use super::response::StoredResponse;

/// A stored response. It never changes.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The response, as it is sent.
    pub response: StoredResponse,
    stored_at: Instant,
    /// The spans of its [`Lifetime`], in order and in nanoseconds: half the size of four
    /// durations.
    lifetime: [u64; 4],
    /// When its token expires, in seconds since the Unix epoch. It is compared with the
    /// wall clock at each use, because tokio's clock stands still while a process is
    /// frozen.
    expires_at: Option<NonZeroU64>,
}

impl Entry {
    /// Makes an entry that is stored now. `expires_at` is when its token expires, in seconds
    /// since the Unix epoch.
    #[must_use]
    pub fn new(response: StoredResponse, lifetime: Lifetime, expires_at: Option<u64>) -> Self {
        let nanoseconds = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let Lifetime {
            initial_age,
            fresh,
            while_revalidate,
            if_error,
        } = lifetime;
        Self {
            response,
            stored_at: Instant::now(),
            lifetime: [initial_age, fresh, while_revalidate, if_error].map(nanoseconds),
            // Second 0 of the epoch is as long past as second 1.
            expires_at: expires_at.and_then(|at| NonZeroU64::new(at.max(1))),
        }
    }

    /// How long it may be reused.
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

    /// Whether its token has expired. `unix_seconds` is the time since the Unix epoch.
    #[must_use]
    pub fn has_expired(&self, unix_seconds: u64) -> bool {
        self.expires_at.is_some_and(|at| unix_seconds >= at.get())
    }

    /// When it was stored.
    #[must_use]
    pub fn stored_at(&self) -> Instant {
        self.stored_at
    }

    /// How long it has been stored (RFC 9111 §4.2.3, `resident_time`).
    #[must_use]
    pub fn resident(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored_at)
    }

    /// Its age (RFC 9111 §4.2.3).
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.lifetime()
            .initial_age
            .saturating_add(self.resident(now))
    }

    /// The memory that it takes, in bytes.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let bytes = self.response.heap_bytes() + PER_ENTRY_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// The memory of an entry beyond its response: the entry itself, its place in the table, its
/// mark on the expiry wheel, and the claims of its token. Measured with a million entries
/// (`benches/peers/run entries`).
const PER_ENTRY_BYTES: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_its_counts_takes_128_bytes() {
        // The allocator rounds one byte more up to 160.
        assert!(size_of::<Entry>() + 2 * size_of::<usize>() <= 128);
    }
}
