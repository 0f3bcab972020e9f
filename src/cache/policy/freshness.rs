//! How long responses may be reused: the limits of a rule, and the lifetime of one response.

use std::time::Duration;

/// The limits that the configuration sets for one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Longest freshness of a 200; zero means *coalesce, but store nothing*.
    pub ttl: Duration,
    /// Longest freshness of a 204, which says that no value is set.
    pub no_content_ttl: Duration,
    /// A response stops being fresh this long before its token expires.
    pub expiry_margin: Duration,
    /// Whether `no-store` and `no-cache` from upstream are obeyed.
    pub respect_no_store: bool,
    /// How long past its freshness a response may be served while a new one is fetched
    /// (RFC 5861 §3).
    pub stale_while_revalidate: Duration,
    /// How long past its freshness a response may be served if fetching a new one fails
    /// (RFC 5861 §4).
    pub stale_if_error: Duration,
}

impl Default for Freshness {
    /// Stores nothing.
    fn default() -> Self {
        Self {
            ttl: Duration::ZERO,
            no_content_ttl: Duration::ZERO,
            expiry_margin: Duration::ZERO,
            respect_no_store: true,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        }
    }
}

/// How long one stored response may be reused. All spans but the age start when it is
/// stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The age of the response when it arrived (`Age`).
    pub initial_age: Duration,
    /// How long it is fresh.
    pub fresh: Duration,
    /// How long it may be served while a new one is fetched; at least `fresh`.
    pub while_revalidate: Duration,
    /// How long it may be served if fetching a new one fails; at least `fresh`.
    pub if_error: Duration,
}

impl Lifetime {
    /// How long the response may be reused at all.
    #[must_use]
    pub fn retained(&self) -> Duration {
        self.while_revalidate.max(self.if_error)
    }
}
