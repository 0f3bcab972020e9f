//! How the table names a stored response: by its key and by when it expires.
//!
//! The expiry is not part of equality, so a new response replaces the one before. But a
//! [`SlotMark`] finds a response only until it is replaced: whoever removes what has
//! expired never removes its successor.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::quality::RandomState;
use moka::Equivalent;

use super::entry::Entry;
use super::key::CacheKey;

/// The stored responses.
pub(super) type Table = moka::sync::Cache<SlotKey, Arc<Entry>, RandomState>;

/// A point in time, counted by the clock of an [`ExpiryWheel`](super::expiry::ExpiryWheel).
pub(super) type Tick = u32;

/// The table's key. moka keeps the newest of equal keys.
#[derive(Clone, Copy)]
pub(super) struct SlotKey {
    key: CacheKey,
    expires: Tick,
}

impl SlotKey {
    pub(super) fn new(key: CacheKey, expires: Tick) -> Self {
        Self { key, expires }
    }

    pub(super) fn mark(self) -> SlotMark {
        SlotMark(self)
    }
}

impl PartialEq for SlotKey {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for SlotKey {}

impl Hash for SlotKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl Equivalent<SlotKey> for CacheKey {
    fn equivalent(&self, slot: &SlotKey) -> bool {
        *self == slot.key
    }
}

/// Finds one stored response, until it is replaced.
#[derive(Clone, Copy)]
pub(super) struct SlotMark(SlotKey);

impl SlotMark {
    pub(super) fn expires(&self) -> Tick {
        self.0.expires
    }
}

impl Hash for SlotMark {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<SlotKey> for SlotMark {
    fn equivalent(&self, slot: &SlotKey) -> bool {
        self.0 == *slot && self.0.expires == slot.expires
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::key;
    use crate::token::DigestKey;
    use std::hash::BuildHasher as _;

    #[test]
    fn a_mark_finds_its_own_response_only() {
        let (digest_key, hasher) = (DigestKey::random().unwrap(), RandomState::default());
        let (one, other) = (key(&digest_key, 1), key(&digest_key, 2));
        let (slot, successor) = (SlotKey::new(one, 5), SlotKey::new(one, 6));
        assert!(slot == successor);
        assert!(slot.mark().equivalent(&slot));
        assert!(!slot.mark().equivalent(&successor));
        assert!(!slot.mark().equivalent(&SlotKey::new(other, 5)));
        let hash = hasher.hash_one(one);
        assert_eq!(hasher.hash_one(slot), hash);
        assert_eq!(hasher.hash_one(slot.mark()), hash);
        // There is a mark for each stored response.
        assert_eq!(size_of::<SlotMark>(), 20);
    }
}
