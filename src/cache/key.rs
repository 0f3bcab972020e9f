//! What makes two requests the same.
//!
//! The credentials are always part of the key, and nothing that is read from a
//! token's claims ever is: the speaker is not readable in a token, so only the
//! token that fetched an answer may see it again.

use std::fmt;
use std::hash::{Hash, Hasher};

use http::header::{ACCEPT, ACCEPT_LANGUAGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};

use crate::region::Region;
use crate::token::{DigestKey, TokenDigest};

/// The headers, besides the credentials, that may change an answer. They go
/// upstream as they came.
pub const KEY_HEADERS: [HeaderName; 2] = [ACCEPT, ACCEPT_LANGUAGE];

/// Names one answer: the digest of the credentials, and a keyed hash over region,
/// canonical target and the [`KEY_HEADERS`]. Nothing can be read from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CacheKey {
    credentials: TokenDigest,
    request: [u8; 16],
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Self::hash_part(self.hashed_part(), state);
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey(..)")
    }
}

impl CacheKey {
    /// Half of each part, which is enough to spread the keys. It still has to be hashed:
    /// the parts are linear in texts that callers choose, so a caller can make keys whose
    /// parts all differ in the same bits.
    pub(super) fn hashed_part(&self) -> [u8; 16] {
        let mut part = self.request;
        let (credentials, _) = part.split_at_mut(8);
        credentials.copy_from_slice(&self.credentials.head().to_ne_bytes());
        part
    }

    /// Hashes a key, given its [`hashed_part`](Self::hashed_part).
    pub(super) fn hash_part<H: Hasher>(part: [u8; 16], state: &mut H) {
        let part = u128::from_ne_bytes(part);
        state.write_u64(part as u64);
        state.write_u64((part >> 64) as u64);
    }

    /// The key of a GET for `target`, which must be canonical.
    #[must_use]
    pub fn of(
        key: &DigestKey,
        region: Region,
        target: &PathAndQuery,
        headers: &HeaderMap,
        credentials: &TokenDigest,
    ) -> Self {
        let request = key.tag(|text| {
            text.push(region as u8);
            // Each part is preceded by its length, so that no two lists of parts
            // have the same bytes.
            let mut part = |bytes: &[u8]| {
                text.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
                text.extend_from_slice(bytes);
            };
            part(target.as_str().as_bytes());
            for name in &KEY_HEADERS {
                let values = headers.get_all(name);
                part(&[values.iter().count().min(255) as u8]);
                values.iter().for_each(|value| part(value.as_bytes()));
            }
        });
        Self {
            credentials: *credentials,
            request,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::BearerToken;
    use std::collections::HashSet;

    #[test]
    fn every_part_tells_requests_apart() {
        let key = DigestKey::random().unwrap();
        let digest = |token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
            BearerToken::take(&mut headers)
                .unwrap()
                .unwrap()
                .digest(&key)
        };
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                .collect()
        };
        let of = |region, target: &'static str, pairs: &[_], token| {
            let target = PathAndQuery::from_static(target);
            CacheKey::of(&key, region, &target, &headers(pairs), &digest(token))
        };
        let keys = [
            of(Region::Na, "/a", &[], "t"),
            of(Region::Eu, "/a", &[], "t"),
            of(Region::Na, "/b", &[], "t"),
            of(Region::Na, "/a?b", &[], "t"),
            of(Region::Na, "/a", &[("accept", "x")], "t"),
            of(Region::Na, "/a", &[("accept-language", "x")], "t"),
            of(Region::Na, "/a", &[], "u"),
        ];
        assert_eq!(
            keys.iter().copied().collect::<HashSet<_>>().len(),
            keys.len()
        );
        assert!(keys[0] == of(Region::Na, "/a", &[("user-agent", "x")], "t"));
    }
}
