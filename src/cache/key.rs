//! The cache key: what makes two requests the same.
//!
//! The credentials are always part of the key, and nothing from a token's claims is. A
//! token does not say who is speaking, so only the token that fetched a response may
//! read it again.

use std::fmt;

use http::header::{ACCEPT, ACCEPT_LANGUAGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};

use crate::region::Region;
use crate::token::{DigestKey, TokenDigest};

/// The request headers, besides the credentials, by which responses may vary. They go
/// upstream unchanged.
pub const KEY_HEADERS: [HeaderName; 2] = [ACCEPT, ACCEPT_LANGUAGE];

/// The key of one response: a keyed hash of the token's digest, the region, the canonical
/// target and the [`KEY_HEADERS`]. None of them can be read from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 16]);

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey(..)")
    }
}

impl CacheKey {
    /// The key of a GET for `target`, which must be canonical.
    #[must_use]
    pub fn of(
        key: &DigestKey,
        region: Region,
        target: &PathAndQuery,
        headers: &HeaderMap,
        credentials: &TokenDigest,
    ) -> Self {
        let mut hasher = key
            .hasher()
            .part(credentials.as_bytes())
            .part(&[region as u8])
            .part(target.as_str().as_bytes());
        for name in &KEY_HEADERS {
            let values = headers.get_all(name);
            hasher = hasher.part(&[values.iter().count().min(255) as u8]);
            for value in &values {
                hasher = hasher.part(value.as_bytes());
            }
        }
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::BearerToken;
    use std::collections::HashSet;

    #[test]
    fn requests_that_differ_in_any_part_have_different_keys() {
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
            of(Region::Na, "/a", &[("accept", "x"), ("accept", "y")], "t"),
            of(
                Region::Na,
                "/a",
                &[("accept", "x"), ("accept-language", "y")],
                "t",
            ),
            of(Region::Na, "/a", &[], "u"),
        ];
        assert_eq!(
            keys.iter().copied().collect::<HashSet<_>>().len(),
            keys.len()
        );
        assert!(keys[0] == of(Region::Na, "/a", &[("user-agent", "x")], "t"));
    }
}
