//! What a JWT says about itself. Nothing of it is verified.
//!
//! Claims that cannot be read are left out, and do not take the others with them.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

use super::skill::SkillId;
use crate::region::Region;

/// What a token says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    /// The skill (`sub`), where it has the shape of a skill id.
    pub skill: Option<SkillId>,
    /// The regional endpoint that the token is meant for (`aud`), a URL.
    pub audience: Option<Cow<'static, str>>,
    /// When the token expires (`exp`), in seconds since the Unix epoch.
    pub expires_at: Option<u64>,
}

/// How much of a payload is decoded at first, in base64 characters. In Alexa's tokens the
/// three claims end before byte 200, and a kilobyte of others follows.
const FRONT: usize = 352;

/// A longer `aud` is not an endpoint. It is not kept: an unverified token must not choose
/// how much memory it takes.
const MAX_AUDIENCE_BYTES: usize = 256;

impl UnverifiedClaims {
    /// Decodes the claims of a token. A token that is not a JWT has empty claims.
    #[must_use]
    pub(super) fn decode(token: &[u8]) -> Self {
        payload(token).and_then(decode).unwrap_or_default()
    }
}

/// The second of a JWT's three parts.
fn payload(token: &[u8]) -> Option<&[u8]> {
    let mut dots = memchr::memchr_iter(b'.', token);
    let (first, second) = (dots.next()?, dots.next()?);
    dots.next().is_none().then(|| &token[first + 1..second])
}

fn decode(payload: &[u8]) -> Option<UnverifiedClaims> {
    let mut front = [0; FRONT / 4 * 3];
    if let Some(encoded) = payload.get(..FRONT) {
        URL_SAFE_NO_PAD.decode_slice(encoded, &mut front).ok()?;
        if let Some(claims) = read(&front) {
            return Some(claims);
        }
    }
    read(&URL_SAFE_NO_PAD.decode(payload).ok()?)
}

/// Reads an object, or the beginning of one that has all claims.
fn read(json: &[u8]) -> Option<UnverifiedClaims> {
    let mut claims = RawClaims::default();
    let mut json = serde_json::Deserializer::from_slice(json);
    let read = json.deserialize_map(&mut claims);
    let whole = read.and_then(|()| json.end()).is_ok();
    (whole || claims.complete).then(|| claims.into())
}

/// The claims as they are written.
#[derive(Default)]
struct RawClaims<'a> {
    sub: Option<&'a RawValue>,
    aud: Option<&'a RawValue>,
    exp: Option<&'a RawValue>,
    /// All three have been read to their end.
    complete: bool,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Sub,
    Aud,
    Exp,
    #[serde(other)]
    Other,
}

impl<'a> Visitor<'a> for &mut RawClaims<'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        // A name that follows shows that the value before it was not cut off.
        while let Some(name) = map.next_key()? {
            if self.sub.is_some() && self.aud.is_some() && self.exp.is_some() {
                self.complete = true;
                return Ok(());
            }
            let claim = match name {
                Name::Sub => &mut self.sub,
                Name::Aud => &mut self.aud,
                Name::Exp => &mut self.exp,
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if claim.replace(map.next_value()?).is_some() {
                return Err(M::Error::custom("repeated claim"));
            }
        }
        Ok(())
    }
}

impl From<RawClaims<'_>> for UnverifiedClaims {
    fn from(claims: RawClaims<'_>) -> Self {
        Self {
            skill: text(claims.sub).and_then(|sub| SkillId::parse(&sub)),
            audience: audience(claims.aud),
            expires_at: expiry(claims.exp),
        }
    }
}

fn value<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Text, borrowed unless something in it is escaped.
fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let plain = value(raw).map(Cow::Borrowed);
    plain.or_else(|| value(raw).map(Cow::Owned))
}

/// One value or several (RFC 7519 §4.1.3).
fn audience(raw: Option<&RawValue>) -> Option<Cow<'static, str>> {
    let audience = text(raw).or_else(|| value::<Vec<_>>(raw)?.into_iter().next())?;
    if audience.len() > MAX_AUDIENCE_BYTES {
        return None;
    }
    let mut known = Region::ALL.into_iter().map(Region::endpoint);
    Some(match known.find(|&known| audience == known) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(audience.into_owned()),
    })
}

/// Seconds, which may have a fraction (RFC 7519 §2). It is cut off, to be on the safe side.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates"
)]
fn expiry(raw: Option<&RawValue>) -> Option<u64> {
    value(raw).or_else(|| value::<f64>(raw).map(|seconds| seconds as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> UnverifiedClaims {
        let payload = URL_SAFE_NO_PAD.encode(json);
        UnverifiedClaims::decode(format!("e30.{payload}.c2ln").as_bytes())
    }

    #[test]
    fn a_jwt_has_claims() {
        let claims = claims(
            r#"{"aud":"https://api.eu.amazonalexa.com","sub":"amzn1.ask.skill.1-a","exp":99,"privateClaims":{}}"#,
        );
        assert_eq!(claims.skill.unwrap().as_str(), "amzn1.ask.skill.1-a");
        assert_eq!(claims.audience.unwrap(), "https://api.eu.amazonalexa.com");
        assert_eq!(claims.expires_at, Some(99));
    }

    #[test]
    fn an_unreadable_claim_does_not_take_the_others_with_it() {
        let read = claims(r#"{"aud":["https://a","https://b"],"sub":5,"exp":99.75}"#);
        let expected = UnverifiedClaims {
            skill: None,
            audience: Some("https://a".into()),
            expires_at: Some(99),
        };
        assert_eq!(read, expected);
        let read = claims(r#"{"aud":{},"exp":"soon","sub":"amzn1.ask.skill.a"}"#);
        assert_eq!((read.audience, read.expires_at), (None, None));
        assert!(read.skill.is_some());
    }

    #[test]
    fn claims_are_found_anywhere_in_a_token() {
        let three = r#""aud":"https://a","sub":"amzn1.ask.skill.a","exp":1234567890"#;
        let expected = claims(&format!("{{{three}}}"));
        assert_eq!(expected.expires_at, Some(1_234_567_890));
        // The end of what is decoded first passes through every place in the claims.
        for length in 0..FRONT {
            let (before, after) = ("a".repeat(length), "b".repeat(FRONT));
            let json = format!(r#"{{"x":"{before}",{three},"y":"{after}"}}"#);
            assert_eq!(claims(&json), expected, "{length}");
        }
    }

    #[test]
    fn a_token_that_repeats_a_claim_has_no_claims() {
        let rest = "b".repeat(FRONT);
        for json in [
            r#"{"exp":1,"exp":2}"#.to_owned(),
            format!(r#"{{"exp":1,"exp":2,"aud":"a","sub":"b","y":"{rest}"}}"#),
        ] {
            assert_eq!(claims(&json), UnverifiedClaims::default());
        }
    }

    #[test]
    fn an_audience_that_is_too_long_is_not_kept() {
        let of = |aud: &str| claims(&format!(r#"{{"aud":"{aud}","exp":9}}"#));
        let longest = "a".repeat(MAX_AUDIENCE_BYTES);
        assert_eq!(of(&longest).audience.as_deref(), Some(&*longest));
        let claims = of(&(longest + "a"));
        assert_eq!((claims.audience, claims.expires_at), (None, Some(9)));
    }

    #[test]
    fn a_subject_that_is_not_a_skill_is_not_kept() {
        let claims = claims(r#"{"sub":"amzn1.account.AEX","exp":9}"#);
        assert_eq!((claims.skill, claims.expires_at), (None, Some(9)));
    }

    #[test]
    fn an_opaque_or_malformed_token_has_no_claims() {
        for token in [
            "Atza|abc",
            "a.b.c",
            "e30.e30",
            "a.b.c.d",
            "e30.e30x.e30",
            "",
        ] {
            let claims = UnverifiedClaims::decode(token.as_bytes());
            assert_eq!(claims, UnverifiedClaims::default(), "{token}");
        }
    }
}
