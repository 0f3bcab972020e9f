//! The bearer token: a secret, and what stands for it.
//!
//! [`BearerToken`] prints nothing of itself, and only `upstream/client.rs` takes its
//! characters out. Everything else holds a [`TokenDigest`], a hash under a key that is
//! drawn for each process, or [`UnverifiedClaims`].
//!
//! Alexa publishes no key to verify its tokens with. So claims may choose a region, a
//! quota, or an upper bound of freshness, but they never let one token read what another
//! one fetched. A token that is not a JWT (`Atza|...`) is normal, and has no claims.

mod claims;
mod claims_cache;
mod digest;
mod skill;

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

pub use claims::UnverifiedClaims;
pub use claims_cache::ClaimsCache;
pub use digest::{DigestKey, TokenDigest};
pub use skill::SkillId;

/// The largest accepted token. Real ones have about 1,850 bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The credentials of one request: the whole value of its `Authorization` header, known
/// to be of the `Bearer` scheme.
#[derive(Clone)]
pub struct BearerToken(HeaderValue);

/// Why the credentials of a request cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// More than one `Authorization` header.
    Repeated,
    /// Longer than [`MAX_TOKEN_BYTES`].
    TooLong,
}

impl BearerToken {
    /// Takes the bearer token out of `headers`.
    ///
    /// Returns `None`, and leaves the headers alone, if there is no `Authorization` or one
    /// of another scheme.
    ///
    /// # Errors
    /// More than one `Authorization` header, or one that is too long.
    pub fn take(headers: &mut HeaderMap) -> Result<Option<Self>, TokenError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(TokenError::Repeated);
        }
        let secret = secret_of(value.as_bytes()).unwrap_or_default();
        if secret.is_empty() {
            return Ok(None);
        }
        if secret.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        Ok(headers.remove(AUTHORIZATION).map(|mut value| {
            value.set_sensitive(true);
            Self(value)
        }))
    }

    /// The header value, for the one place that sends it.
    pub(crate) fn authorization(&self) -> &HeaderValue {
        &self.0
    }

    /// The digest that stands for this token everywhere in the process.
    #[must_use]
    pub fn digest(&self, key: &DigestKey) -> TokenDigest {
        key.digest(self.0.as_bytes())
    }

    /// What the token says about itself, if it is a JWT.
    #[must_use]
    pub fn claims(&self) -> UnverifiedClaims {
        let secret = secret_of(self.0.as_bytes()).unwrap_or_default();
        UnverifiedClaims::decode(secret)
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// What follows `Bearer ` (RFC 6750 §2.1; the scheme is case-insensitive).
fn secret_of(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn token(value: &str) -> BearerToken {
        BearerToken::take(&mut headers(value)).unwrap().unwrap()
    }

    #[test]
    fn a_token_is_taken_out_of_the_headers() {
        let mut headers = headers("bearer Atza|secret");
        assert!(BearerToken::take(&mut headers).unwrap().is_some());
        assert!(headers.is_empty());
    }

    #[test]
    fn another_scheme_is_left_alone() {
        for value in ["Basic dXNlcg==", "Bearer", "Bearer   ", "Bear"] {
            let mut headers = headers(value);
            assert!(BearerToken::take(&mut headers).unwrap().is_none());
            assert_eq!(headers.len(), 1, "{value}");
        }
    }

    #[test]
    fn two_credentials_are_refused() {
        let mut headers = headers("Bearer a");
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(
            BearerToken::take(&mut headers).unwrap_err(),
            TokenError::Repeated
        );
    }

    #[test]
    fn a_long_token_is_refused() {
        let longest = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES));
        assert!(BearerToken::take(&mut headers(&longest)).unwrap().is_some());
        let value = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
        assert_eq!(
            BearerToken::take(&mut headers(&value)).unwrap_err(),
            TokenError::TooLong
        );
    }

    #[test]
    fn a_token_tells_its_claims() {
        // {"exp":99}
        let claims = token("Bearer e30.eyJleHAiOjk5fQ.c2ln").claims();
        assert_eq!(claims.expires_at, Some(99));
    }

    #[test]
    fn nothing_of_the_secret_is_printed() {
        let key = DigestKey::random().unwrap();
        let token = token("Bearer secret");
        let text = format!("{token:?} {:?} {key:?}", token.digest(&key));
        assert_eq!(text, "BearerToken(..) TokenDigest(..) DigestKey(..)");
    }

    #[test]
    fn digests_are_equal_for_equal_tokens_under_one_key_only() {
        let (one, other) = (DigestKey::random().unwrap(), DigestKey::random().unwrap());
        let (a, b) = (token("Bearer a"), token("Bearer b"));
        assert_eq!(a.digest(&one), a.clone().digest(&one));
        assert_ne!(a.digest(&one), b.digest(&one));
        assert_ne!(a.digest(&one), a.digest(&other));
    }
}
