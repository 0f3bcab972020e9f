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
    lifetime: PackedLifetime,
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
        Self {
            response,
            stored_at: Instant::now(),
            lifetime: PackedLifetime::new(lifetime),
            // Second 0 of the epoch is as long past as second 1.
            expires_at: expires_at.and_then(|at| NonZeroU64::new(at.max(1))),
        }
    }

    /// How long it may be reused.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime.unpack()
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

/// A [`Lifetime`] in a quarter of its size. Its spans are cut to milliseconds, and to 49
/// days.
#[derive(Clone, Copy, Debug)]
struct PackedLifetime {
    initial_age_seconds: u32,
    fresh_ms: u32,
    while_revalidate_ms: u32,
    if_error_ms: u32,
}

impl PackedLifetime {
    fn new(lifetime: Lifetime) -> Self {
        let ms = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        Self {
            // `Age` has whole seconds, 2³¹ at most.
            initial_age_seconds: u32::try_from(lifetime.initial_age.as_secs()).unwrap_or(u32::MAX),
            fresh_ms: ms(lifetime.fresh),
            while_revalidate_ms: ms(lifetime.while_revalidate),
            if_error_ms: ms(lifetime.if_error),
        }
    }

    fn unpack(self) -> Lifetime {
        let span = |ms: u32| Duration::from_millis(ms.into());
        Lifetime {
            initial_age: Duration::from_secs(self.initial_age_seconds.into()),
            fresh: span(self.fresh_ms),
            while_revalidate: span(self.while_revalidate_ms),
            if_error: span(self.if_error_ms),
        }
    }
}

/// The memory of an entry beyond its response: the entry itself, its place in the table, its
/// mark on the expiry wheel, and the claims of its token. Measured with a million entries
/// (`benches/peers/run entries`).
const PER_ENTRY_BYTES: usize = 480;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_its_counts_takes_112_bytes() {
        // The allocator rounds one byte more up to 128.
        assert!(size_of::<Entry>() + 2 * size_of::<usize>() <= 112);
    }

    #[test]
    fn a_lifetime_is_unpacked_as_it_was() {
        let lifetime = Lifetime {
            initial_age: Duration::from_secs(1 << 31),
            fresh: Duration::from_millis(1),
            while_revalidate: Duration::from_secs(30 * 86400),
            if_error: Duration::from_millis(1500),
        };
        assert_eq!(PackedLifetime::new(lifetime).unpack(), lifetime);
        let longest = Lifetime {
            fresh: Duration::MAX,
            ..lifetime
        };
        let unpacked = PackedLifetime::new(longest).unpack();
        assert_eq!(unpacked.fresh, Duration::from_millis(u32::MAX.into()));
    }
}
