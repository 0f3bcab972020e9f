//! Keyed hashes of tokens and requests.
//!
//! POLYVAL is a universal hash (RFC 8452 §3): a polynomial of the bytes at a secret point.
//! Two texts of up to 8 KiB, whoever chose them, have one hash with a probability of at
//! most 2⁻¹¹⁸. That holds only while nobody sees a hash: it is not a one-way function, so
//! a fleet that shares hashes will need another one.

use std::fmt;

use polyval::universal_hash::UniversalHash as _;
use polyval::{BLOCK_SIZE, Block, Polyval};

/// The key under which tokens and requests are hashed.
pub struct DigestKey(Polyval);

impl DigestKey {
    /// Draws a key from the operating system.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = Block::default();
        getrandom::fill(&mut key)?;
        Ok(Self(Polyval::new(&key)))
    }

    /// The digest of a token.
    pub(super) fn digest(&self, token: &[u8]) -> TokenDigest {
        TokenDigest(self.hasher().part(token).finish())
    }

    /// Starts a hash of several parts.
    pub(crate) fn hasher(&self) -> KeyedHasher {
        KeyedHasher(self.0.clone())
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

/// Hashes a list of byte strings. Different lists are hashed as different texts, wherever
/// their parts begin and end.
pub(crate) struct KeyedHasher(Polyval);

impl KeyedHasher {
    /// Adds a part.
    pub(crate) fn part(mut self, bytes: &[u8]) -> Self {
        // The length comes first, in a block that is never zero: leading zeros would not
        // change a polynomial.
        let mut length = [1; BLOCK_SIZE];
        length[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.update(&[length.into()]);
        self.0.update_padded(bytes);
        self
    }

    /// The hash of all parts.
    pub(crate) fn finish(self) -> [u8; 16] {
        self.0.finalize().into()
    }
}

/// A keyed hash of one token: equal for equal tokens within one process, and useless
/// outside it. It is not printed either, because it would link log lines.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 16]);

impl TokenDigest {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its first half, which is as evenly spread as the whole.
    pub(super) fn head(&self) -> u64 {
        let [head @ .., _, _, _, _, _, _, _, _] = self.0;
        u64::from_ne_bytes(head)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn lists_of_parts_are_told_apart() {
        let key = DigestKey::random().unwrap();
        let lists: [&[&[u8]]; 10] = [
            &[],
            &[b""],
            &[b"", b""],
            &[b"\0"],
            &[b"\0\0"],
            &[b"", b"\0"],
            &[b"ab"],
            &[b"a", b"b"],
            &[b"", b"ab"],
            &[&[0; 16], b"ab"],
        ];
        let hash = |parts: &&[&[u8]]| {
            let parts = parts.iter();
            parts
                .fold(key.hasher(), |hasher, part| hasher.part(part))
                .finish()
        };
        let hashes: HashSet<_> = lists.iter().map(hash).collect();
        assert_eq!(hashes.len(), lists.len());
    }
}
