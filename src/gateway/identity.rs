//! Who sends a request: its credentials, and what they claim.

use crate::token::{BearerToken, ClaimsCache, DigestKey, TokenDigest, UnverifiedClaims};

/// What a request's token says, if it has one.
pub(super) struct Identity {
    pub(super) credentials: Option<Credentials>,
    /// Hints only; empty without a token.
    pub(super) claims: UnverifiedClaims,
}

/// A token and the digest that stands for it.
pub(super) struct Credentials {
    pub(super) token: BearerToken,
    pub(super) digest: TokenDigest,
}

/// Turns tokens into identities.
pub(super) struct Identities {
    pub(super) digest_key: DigestKey,
    claims: ClaimsCache,
}

impl Identities {
    /// Remembers the claims of about as many tokens as there may be stored responses.
    ///
    /// # Errors
    /// The operating system provides no randomness.
    pub(super) fn for_responses(max_entries: u64) -> Result<Self, getrandom::Error> {
        Ok(Self {
            digest_key: DigestKey::random()?,
            claims: ClaimsCache::for_responses(max_entries),
        })
    }

    pub(super) fn of(&self, token: Option<BearerToken>) -> Identity {
        let credentials = token.map(|token| Credentials {
            digest: token.digest(&self.digest_key),
            token,
        });
        let claims = credentials.as_ref().map(|credentials| {
            let Credentials { token, digest } = credentials;
            self.claims.claims(digest, || token.claims())
        });
        Identity {
            credentials,
            claims: claims.unwrap_or_default(),
        }
    }
}
