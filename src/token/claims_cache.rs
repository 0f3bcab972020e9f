//! The claims of recently seen tokens, so that a token is decoded once and not for each of
//! its requests.
//!
//! A token has one place, chosen by its digest; the next token with the same place takes
//! it over. So there is no order to keep and nothing to lock. The whole digest is compared,
//! so the claims that are found are the token's own.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::claims::UnverifiedClaims;
use super::digest::TokenDigest;
use super::skill::SkillId;

/// The most places. An empty place takes 8 bytes, a taken one some 100; 370 if its token
/// names a skill and an endpoint that no other token names.
const MAX_PLACES: usize = 1 << 20;

/// The most skill ids that tokens share. Tokens of further skills have a copy each.
const MAX_SHARED_SKILLS: usize = 1000;

/// The claims of recently seen tokens.
pub struct ClaimsCache {
    places: Box<[ArcSwapOption<Decoded>]>,
    /// One copy of each skill's id, for all tokens of the skill.
    skills: Mutex<HashSet<SkillId>>,
}

/// One token's claims, packed: there is one for nearly each stored response.
struct Decoded {
    digest: TokenDigest,
    skill: Option<SkillId>,
    audience: Option<Cow<'static, str>>,
    expires_at: Option<NonZeroU64>,
}

impl Decoded {
    fn claims(&self) -> UnverifiedClaims {
        UnverifiedClaims {
            skill: self.skill.clone(),
            audience: self.audience.clone(),
            expires_at: self.expires_at.map(NonZeroU64::get),
        }
    }
}

impl ClaimsCache {
    /// An empty cache for the tokens of this many stored responses. A token has up to three
    /// responses; if all of them are in use, one token in seven is decoded again.
    #[must_use]
    pub fn for_responses(responses: u64) -> Self {
        let places = usize::try_from(responses).unwrap_or(MAX_PLACES);
        Self::with_places(places.clamp(1, MAX_PLACES))
    }

    fn with_places(places: usize) -> Self {
        Self {
            places: (0..places).map(|_| ArcSwapOption::empty()).collect(),
            skills: Mutex::default(),
        }
    }

    /// The claims of the token with this digest. Calls `decode` if they are not known.
    #[must_use]
    pub fn claims(
        &self,
        digest: &TokenDigest,
        decode: impl FnOnce() -> UnverifiedClaims,
    ) -> UnverifiedClaims {
        let place = digest.head() % self.places.len() as u64;
        let place = &self.places[place as usize];
        match &*place.load() {
            Some(decoded) if decoded.digest == *digest => decoded.claims(),
            _ => {
                let claims = decode();
                let decoded = Arc::new(Decoded {
                    digest: *digest,
                    skill: claims.skill.map(|skill| self.shared(skill)),
                    audience: claims.audience,
                    // Second 0 of the epoch is as long past as second 1.
                    expires_at: claims.expires_at.and_then(|at| NonZeroU64::new(at.max(1))),
                });
                let claims = decoded.claims();
                place.store(Some(decoded));
                claims
            }
        }
    }

    fn shared(&self, skill: SkillId) -> SkillId {
        let mut skills = self.skills.lock();
        if let Some(shared) = skills.get(&skill) {
            return shared.clone();
        }
        if skills.len() < MAX_SHARED_SKILLS {
            skills.insert(skill.clone());
        }
        skill
    }
}

impl fmt::Debug for ClaimsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimsCache(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::digest::DigestKey;

    #[test]
    fn each_token_finds_its_own_claims() {
        let (key, cache) = (DigestKey::random().unwrap(), ClaimsCache::with_places(16));
        // More tokens than places, so that they take over each other's.
        for _ in 0..2 {
            for exp in 1..=64_u64 {
                let digest = key.digest(&exp.to_le_bytes());
                let decode = || UnverifiedClaims {
                    expires_at: Some(exp),
                    ..UnverifiedClaims::default()
                };
                assert_eq!(cache.claims(&digest, decode).expires_at, Some(exp));
                let again = cache.claims(&digest, || panic!("decoded twice"));
                assert_eq!(again.expires_at, Some(exp));
            }
        }
    }

    #[test]
    fn tokens_of_one_skill_share_its_id() {
        let (key, cache) = (DigestKey::random().unwrap(), ClaimsCache::with_places(16));
        let claims = |token: &[u8]| {
            let decode = || UnverifiedClaims {
                skill: SkillId::parse("amzn1.ask.skill.a"),
                ..UnverifiedClaims::default()
            };
            cache.claims(&key.digest(token), decode).skill.unwrap()
        };
        let (one, other) = (claims(b"a"), claims(b"b"));
        assert_eq!(one.as_str().as_ptr(), other.as_str().as_ptr());
    }
}
