//! The bearer token: a secret, its digest, and its unauthenticated hints.
//!
//! [`BearerToken`] prints nothing of itself and only `upstream/client.rs` takes
//! its characters out. Everything else holds a [`TokenDigest`], a hash under a
//! key that is drawn anew for each process, or [`UnverifiedClaims`].
//!
//! Alexa publishes no key to verify its tokens with, so a claim is a hint: good
//! for choosing a region, a quota bucket and an upper bound of freshness, never
//! for letting one token read what another fetched. A token that is no JWT
//! (`Atza|...`) is normal and has no hints.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

use crate::region::Region;

/// The largest credential that is accepted; real tokens have about 1,850 bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The credentials of one request: the whole value of its `Authorization`
/// header, known to be of the `Bearer` scheme.
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
    /// Answers `None`, and leaves the headers alone, if there is no
    /// `Authorization` or one of another scheme.
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
        TokenDigest(key.tag(|text| text.extend_from_slice(self.0.as_bytes())))
    }

    /// What the token says about itself, if it is a JWT.
    #[must_use]
    pub fn hints(&self) -> UnverifiedClaims {
        secret_of(self.0.as_bytes())
            .and_then(claims_of)
            .unwrap_or_default()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// The key under which credentials and requests are hashed.
pub struct DigestKey(LessSafeKey);

impl DigestKey {
    /// Draws a key from the operating system.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        let key = UnboundKey::new(&AES_128_GCM, &key);
        let key = LessSafeKey::new(key.expect("the key has the cipher's length"));
        Ok(Self(key))
    }

    /// A keyed hash of what `write` writes: the tag of AES-GCM, whose text is thrown
    /// away. It is a polynomial of the bytes at a secret point, so that two texts of
    /// up to 8 KiB, whoever chose them, have one tag with a probability of at most
    /// 2⁻¹¹⁸ (NIST SP 800-38D, McGrew and Viega 2004). That holds as long as no tag is
    /// shown to anybody, which is also why one nonce will do: nothing but
    /// [`TokenDigest`] and the keys of cache and flights holds one.
    pub(crate) fn tag(&self, write: impl FnOnce(&mut Vec<u8>)) -> [u8; 16] {
        SCRATCH.with_borrow_mut(|text| {
            text.clear();
            write(text);
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let tag: Result<Tag, _> = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), text);
            let tag = tag.expect("no head has the cipher's limit of 64 GiB");
            let mut bytes = [0; 16];
            bytes.copy_from_slice(tag.as_ref());
            bytes
        })
    }
}

thread_local! {
    /// Where a text is encrypted; it has the room of the longest one that came.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

/// A keyed hash of one token: equal for equal tokens within one process, and of
/// no use outside it. It is not printed either, for it would link log lines.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 16]);

impl TokenDigest {
    /// Its first bytes, which are as evenly spread as any.
    pub(crate) fn head(&self) -> u64 {
        let [head @ .., _, _, _, _, _, _, _, _] = self.0;
        u64::from_ne_bytes(head)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

/// What a token says about itself. Nothing of it is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    /// The skill (`sub`), where it has the shape of a skill id.
    pub skill: Option<SkillId>,
    /// The regional endpoint that the token is meant for (`aud`), a URL.
    pub audience: Option<Cow<'static, str>>,
    /// When the token expires (`exp`), in seconds since the Unix epoch.
    pub expires_at: Option<u64>,
}

/// A skill's id, `amzn1.ask.skill.<uuid>`: names an application, not a person,
/// and may be logged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SkillId(Arc<str>);

impl SkillId {
    /// Accepts what looks like a skill id and nothing else: the `sub` of other
    /// tokens can be a person's id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("amzn1.ask.skill.")?;
        let plausible = (1..=64).contains(&rest.len())
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        plausible.then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SkillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many places there are at most for the hints of tokens. A place takes 8 bytes, and
/// some 100 once it is taken; 370 if its token names a skill and an endpoint that no
/// other does.
const MAX_PLACES: usize = 1 << 20;

/// The hints of tokens that came lately, so that a token is decoded once and not at
/// each of its requests. A token has one place, by its digest, and the next one with
/// the same place takes it over: nothing to order, nothing to lock. What is found is
/// the token's own, for all of the digest is compared.
pub struct ClaimsCache {
    places: Box<[ArcSwapOption<Remembered>]>,
    /// One copy of each skill's id, for the tokens of a skill to share.
    skills: Mutex<HashSet<SkillId>>,
}

/// What a token said when it came last.
struct Remembered {
    digest: TokenDigest,
    hints: UnverifiedClaims,
}

/// How many skills' ids are shared; tokens of further ones have one each.
const MAX_SHARED_SKILLS: usize = 1000;

impl ClaimsCache {
    /// Nothing remembered yet; room for the tokens of so many stored answers. A token has
    /// up to three, so that with all of them in use one in seven is decoded anew.
    #[must_use]
    pub fn for_answers(answers: u64) -> Self {
        let places = usize::try_from(answers).unwrap_or(MAX_PLACES);
        Self::with_places(places.clamp(1, MAX_PLACES))
    }

    fn with_places(places: usize) -> Self {
        Self {
            places: (0..places).map(|_| ArcSwapOption::empty()).collect(),
            skills: Mutex::default(),
        }
    }

    /// The hints of `token`, whose digest this is.
    #[must_use]
    pub fn hints(&self, token: &BearerToken, digest: &TokenDigest) -> UnverifiedClaims {
        let place = digest.head() % self.places.len() as u64;
        let place = &self.places[place as usize];
        match &*place.load() {
            Some(remembered) if remembered.digest == *digest => remembered.hints.clone(),
            _ => {
                let mut hints = token.hints();
                hints.skill = hints.skill.map(|skill| self.shared(skill));
                place.store(Some(Arc::new(Remembered {
                    digest: *digest,
                    hints: hints.clone(),
                })));
                hints
            }
        }
    }

    fn shared(&self, skill: SkillId) -> SkillId {
        let mut skills = self.skills.lock().unwrap_or_else(PoisonError::into_inner);
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

/// The part of the claims that the gateway looks at, each still to be read: one
/// that is odd must not take the others with it.
#[derive(Default, Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
}

/// What claims are called.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name {
    Sub,
    Aud,
    Exp,
    #[serde(other)]
    Other,
}

/// Reads an object until all [`Claims`] are there, and notes that they are. What comes
/// after them, which may be cut off, is not looked at.
struct First<'c, 'a>(&'c mut Claims<'a>, &'c mut bool);

impl<'a> Visitor<'a> for First<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let Claims { sub, aud, exp } = self.0;
        // A name that follows shows that the value before it is whole.
        while let Some(name) = map.next_key()? {
            if sub.is_some() && aud.is_some() && exp.is_some() {
                *self.1 = true;
                return Ok(());
            }
            let claim = match name {
                Name::Sub => &mut *sub,
                Name::Aud => &mut *aud,
                Name::Exp => &mut *exp,
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if claim.replace(map.next_value()?).is_some() {
                return Err(M::Error::custom("a claim that is there twice"));
            }
        }
        Ok(())
    }
}

impl From<Claims<'_>> for UnverifiedClaims {
    fn from(claims: Claims<'_>) -> Self {
        Self {
            skill: text(claims.sub).and_then(|sub| SkillId::parse(&sub)),
            audience: audience(claims.aud),
            expires_at: expiry(claims.exp),
        }
    }
}

/// A claim of the given type, or nothing.
fn claim<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Text, which is there as it is unless something in it is escaped.
fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let plain = claim(raw).map(Cow::Borrowed);
    plain.or_else(|| claim(raw).map(Cow::Owned))
}

/// No endpoint is as long.
const MAX_AUDIENCE_BYTES: usize = 256;

/// `aud` is one value or several (RFC 7519 §4.1.3).
fn audience(raw: Option<&RawValue>) -> Option<Cow<'static, str>> {
    let said = text(raw).or_else(|| claim::<Vec<_>>(raw)?.into_iter().next())?;
    // What is kept of a token that nobody has verified must not be what it likes.
    if said.len() > MAX_AUDIENCE_BYTES {
        return None;
    }
    let mut known = Region::ALL.into_iter().map(Region::endpoint);
    Some(match known.find(|&known| said == known) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(said.into_owned()),
    })
}

/// `exp` may have a fraction (RFC 7519 §2); what is before it is the safe side.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates"
)]
fn expiry(raw: Option<&RawValue>) -> Option<u64> {
    claim(raw).or_else(|| claim::<f64>(raw).map(|seconds| seconds as u64))
}

/// What follows `Bearer ` (RFC 6750 §2.1; the scheme is case-insensitive).
fn secret_of(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = authorization.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| rest.trim_ascii())
}

fn claims_of(secret: &[u8]) -> Option<UnverifiedClaims> {
    let mut dots = memchr::memchr_iter(b'.', secret);
    let (first, second) = (dots.next()?, dots.next()?);
    if dots.next().is_some() {
        return None;
    }
    let payload = &secret[first + 1..second];
    front_hints_of(payload).or_else(|| {
        let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: Claims<'_> = serde_json::from_slice(&json).ok()?;
        Some(claims.into())
    })
}

/// How much of a payload is decoded at first, in characters of four for three bytes. In
/// Alexa's tokens the claims that matter end before the 200th byte, and a kilobyte of
/// others follows.
const FRONT: usize = 352;

/// The hints, if all of them are at the front of the payload.
fn front_hints_of(payload: &[u8]) -> Option<UnverifiedClaims> {
    let mut json = [0; FRONT / 4 * 3];
    let front = payload.get(..FRONT)?;
    URL_SAFE_NO_PAD.decode_slice(front, &mut json).ok()?;
    let mut claims = Claims::default();
    let mut all = false;
    let mut json = serde_json::Deserializer::from_slice(&json);
    // The object ends in the middle, and so in an error, whatever was found.
    let found = json.deserialize_map(First(&mut claims, &mut all));
    drop(found);
    all.then(|| claims.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn jwt(claims: &str) -> BearerToken {
        let payload = URL_SAFE_NO_PAD.encode(claims);
        BearerToken::take(&mut headers(&format!("Bearer e30.{payload}.c2ln")))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn remembered_hints_are_those_of_the_token_itself() {
        let (key, memo) = (DigestKey::random().unwrap(), ClaimsCache::with_places(16));
        let count = 64;
        // More than there are places for, so that tokens take over each other's.
        for _ in 0..2 {
            for exp in 0..count {
                let token = jwt(&format!(r#"{{"exp":{exp}}}"#));
                for _ in 0..2 {
                    let hints = memo.hints(&token, &token.digest(&key));
                    assert_eq!(hints.expires_at, Some(exp));
                }
            }
        }
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
    fn a_long_credential_is_refused() {
        let longest = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES));
        assert!(BearerToken::take(&mut headers(&longest)).unwrap().is_some());
        let value = format!("Bearer {}", "a".repeat(MAX_TOKEN_BYTES + 1));
        assert_eq!(
            BearerToken::take(&mut headers(&value)).unwrap_err(),
            TokenError::TooLong
        );
    }

    #[test]
    fn hints_come_from_the_claims() {
        let token = jwt(
            r#"{"aud":"https://api.eu.amazonalexa.com","sub":"amzn1.ask.skill.1-a","exp":99,"privateClaims":{}}"#,
        );
        let hints = token.hints();
        assert_eq!(hints.skill.unwrap().as_str(), "amzn1.ask.skill.1-a");
        assert_eq!(hints.audience.unwrap(), "https://api.eu.amazonalexa.com");
        assert_eq!(hints.expires_at, Some(99));
    }

    #[test]
    fn an_odd_claim_does_not_take_the_others_with_it() {
        let hints = jwt(r#"{"aud":["https://a","https://b"],"sub":5,"exp":99.75}"#).hints();
        let audience = Some("https://a".into());
        assert_eq!(
            hints,
            UnverifiedClaims {
                skill: None,
                audience,
                expires_at: Some(99)
            }
        );
        let hints = jwt(r#"{"aud":{},"exp":"soon","sub":"amzn1.ask.skill.a"}"#).hints();
        assert_eq!((hints.audience, hints.expires_at), (None, None));
        assert!(hints.skill.is_some());
    }

    #[test]
    fn hints_are_the_same_wherever_in_a_token_they_are() {
        let claims = r#""aud":"https://a","sub":"amzn1.ask.skill.a","exp":1234567890"#;
        let expected = jwt(&format!("{{{claims}}}")).hints();
        assert_eq!(expected.expires_at, Some(1_234_567_890));
        // The cut of what is decoded first goes through every place in the claims.
        for length in 0..FRONT {
            let (before, after) = ("a".repeat(length), "b".repeat(FRONT));
            let claims = format!(r#"{{"x":"{before}",{claims},"y":"{after}"}}"#);
            assert_eq!(jwt(&claims).hints(), expected, "{length}");
        }
    }

    #[test]
    fn a_claim_that_is_there_twice_is_no_hint() {
        let rest = "b".repeat(FRONT);
        for claims in [
            r#"{"exp":1,"exp":2}"#.to_owned(),
            format!(r#"{{"exp":1,"exp":2,"aud":"a","sub":"b","y":"{rest}"}}"#),
        ] {
            assert_eq!(jwt(&claims).hints(), UnverifiedClaims::default());
        }
    }

    #[test]
    fn an_audience_that_is_no_endpoint_takes_no_room() {
        let of = |aud: &str| jwt(&format!(r#"{{"aud":"{aud}","exp":9}}"#)).hints();
        let longest = "a".repeat(MAX_AUDIENCE_BYTES);
        assert_eq!(of(&longest).audience.as_deref(), Some(&*longest));
        let hints = of(&(longest + "a"));
        assert_eq!((hints.audience, hints.expires_at), (None, Some(9)));
    }

    #[test]
    fn a_subject_that_is_no_skill_is_not_kept() {
        for sub in [
            "amzn1.account.AEX",
            "amzn1.ask.skill.",
            "amzn1.ask.skill.a b",
        ] {
            assert_eq!(jwt(&format!(r#"{{"sub":"{sub}"}}"#)).hints().skill, None);
        }
    }

    #[test]
    fn an_opaque_or_odd_token_has_no_hints() {
        for value in [
            "Bearer Atza|abc",
            "Bearer a.b.c",
            "Bearer e30.e30",
            "Bearer a.b.c.d",
        ] {
            let token = BearerToken::take(&mut headers(value)).unwrap().unwrap();
            assert_eq!(token.hints(), UnverifiedClaims::default(), "{value}");
        }
    }

    #[test]
    fn nothing_of_the_secret_is_printed() {
        let key = DigestKey::random().unwrap();
        let token = jwt(r#"{"sub":"x"}"#);
        let text = format!("{token:?} {:?} {key:?}", token.digest(&key));
        assert_eq!(text, "BearerToken(..) TokenDigest(..) DigestKey(..)");
    }

    #[test]
    fn digests_are_equal_for_equal_tokens_under_one_key_only() {
        let (one, other) = (DigestKey::random().unwrap(), DigestKey::random().unwrap());
        let (a, b) = (jwt(r#"{"exp":1}"#), jwt(r#"{"exp":2}"#));
        assert_eq!(a.digest(&one), a.clone().digest(&one));
        assert_ne!(a.digest(&one), b.digest(&one));
        assert_ne!(a.digest(&one), a.digest(&other));
    }
}
