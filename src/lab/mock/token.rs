//! Tokens in the shape and size of Alexa's, and what the mock reads in them. Every minted
//! token is unique and carries everything that the mock needs, so none is registered.
//! The signature is random: no client can check the real one either.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use super::scenario::TokenScenario;
use crate::region::Region;

/// The default skill of a minted token.
pub const EXAMPLE_SKILL: &str = "amzn1.ask.skill.5f1c0b7e-2d4a-4c39-9e61-8a7b3d0f2c15";

/// How long Alexa's own tokens are valid.
pub const LIFETIME: Duration = Duration::from_secs(300);

/// The longest name, in bytes, that a token carries.
const LONGEST_NAME: usize = 200;

/// The bytes behind the 440 base64 characters of `context`.
const CONTEXT_BYTES: usize = 330;

/// The first line of a `context` that [`TokenSpec::mint`] wrote.
const MARK: &str = "mock";

/// The content of a minted token.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// The region whose API accepts the token.
    pub region: Region,
    /// The skill it was issued to: `amzn1.ask.skill.` and a UUID.
    pub skill: String,
    /// From issue to expiry, in whole seconds.
    pub lifetime: Duration,
    /// When it is valid from, in whole seconds.
    pub issued_at: SystemTime,
    /// The name of the speaker, cut after 200 bytes and without control
    /// characters; without one, every token has a speaker of its own.
    pub person: Option<String>,
    /// The mock's response to the token.
    pub scenario: TokenScenario,
}

impl Default for TokenSpec {
    /// A token for the example skill in North America, valid from now.
    fn default() -> Self {
        Self {
            region: Region::Na,
            skill: EXAMPLE_SKILL.to_owned(),
            lifetime: LIFETIME,
            issued_at: SystemTime::now(),
            person: None,
            scenario: TokenScenario::Ok,
        }
    }
}

impl TokenSpec {
    /// Makes a token; no two calls make the same.
    #[must_use]
    pub fn mint(&self) -> String {
        let issued = since_epoch(self.issued_at);
        let note = Note::new(self);
        let owner = match &*note.person {
            "" => &note.nonce,
            person => person,
        };
        let claims = Claims {
            aud: audience(self.region),
            iss: "AlexaSkillKit".to_owned(),
            sub: self.skill.clone(),
            iat: issued.as_secs(),
            nbf: issued.as_secs(),
            exp: issued.saturating_add(self.lifetime).as_secs(),
            private: PrivateClaims {
                context: note.to_context(),
                device_id: identifier("device", 183, owner),
                user_id: identifier("account", 207, owner),
            },
        };
        let claims = serde_json::to_vec(&claims).expect("text and numbers are always JSON");
        let mut signature = [0; 256];
        fastrand::fill(&mut signature);
        let header = BASE64.encode(r#"{"typ":"JWT","alg":"RS256","kid":"1"}"#);
        format!(
            "{header}.{}.{}",
            BASE64.encode(claims),
            BASE64.encode(signature)
        )
    }
}

/// The claims of a token; those that the mock does not check may be missing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    aud: String,
    #[serde(default)]
    iss: String,
    pub(super) sub: String,
    #[serde(default)]
    iat: u64,
    #[serde(default)]
    nbf: u64,
    exp: u64,
    #[serde(default, rename = "privateClaims")]
    private: PrivateClaims,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PrivateClaims {
    context: String,
    device_id: String,
    user_id: String,
}

impl Claims {
    /// Reads the claims of a JWT; an opaque token has none.
    pub(super) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()
    }

    pub(super) fn expired(&self, now: SystemTime) -> bool {
        since_epoch(now).as_secs() >= self.exp
    }

    pub(super) fn is_for(&self, region: Region) -> bool {
        self.aud == audience(region)
    }

    /// Returns what was noted for the mock; a token minted elsewhere has none.
    pub(super) fn note(&self) -> Option<Note> {
        let context = BASE64.decode(&self.private.context).ok()?;
        let mut fields = context.splitn(5, |&byte| byte == b'\n').map(str::from_utf8);
        let mut field = || fields.next()?.ok();
        (field()? == MARK).then_some(())?;
        Some(Note {
            scenario: field()?.parse().ok()?,
            nonce: field()?.to_owned(),
            person: field()?.to_owned(),
        })
    }
}

/// What a minted token tells the mock, inside the opaque `context`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) scenario: TokenScenario,
    /// Different in every token.
    pub(super) nonce: String,
    /// The speaker's name; empty when none was asked for.
    pub(super) person: String,
}

impl Note {
    fn new(spec: &TokenSpec) -> Self {
        let mut person = String::new();
        for letter in spec.person.iter().flat_map(|name| name.trim().chars()) {
            if person.len() + letter.len_utf8() > LONGEST_NAME {
                break;
            }
            if !letter.is_control() {
                person.push(letter);
            }
        }
        Self {
            scenario: spec.scenario,
            nonce: format!("{:032x}", fastrand::u128(..)),
            person,
        }
    }

    fn to_context(&self) -> String {
        let Self {
            scenario,
            nonce,
            person,
        } = self;
        let mut context = [0; CONTEXT_BYTES];
        fastrand::fill(&mut context);
        let text = format!("{MARK}\n{scenario}\n{nonce}\n{person}\n");
        context[..text.len()].copy_from_slice(text.as_bytes());
        BASE64.encode(context)
    }
}

/// Times before 1970 count as 1970.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn audience(region: Region) -> String {
    format!("https://{}", region.host())
}

/// An identifier as Alexa writes them, the same for the same owner.
fn identifier(kind: &str, length: usize, owner: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut letters = vec![0; length];
    let mut hash = blake3::Hasher::new_derive_key(kind);
    hash.update(owner.as_bytes())
        .finalize_xof()
        .fill(&mut letters);
    let letters = letters
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    format!("amzn1.ask.{kind}.{}", letters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn a_token_has_the_size_and_the_parts_of_a_real_one() {
        for region in Region::ALL {
            let spec = TokenSpec {
                region,
                ..TokenSpec::default()
            };
            let token = spec.mint();
            assert!((1790..=1910).contains(&token.len()), "{}", token.len());
            let claims = Claims::read(&token).unwrap();
            assert_eq!(claims.private.context.len(), 440);
            assert_eq!(claims.private.device_id.len(), 200);
            assert_eq!(claims.private.user_id.len(), 225);
            assert_eq!((claims.iat, claims.exp - claims.iat), (claims.nbf, 300));
            assert_eq!(claims.sub, EXAMPLE_SKILL);
            assert!(claims.is_for(region));
        }
    }

    #[test]
    fn a_minted_token_is_read_back() {
        for scenario in TokenScenario::iter() {
            for name in ["", "山田太郎", "José García"] {
                let person = Some(name.to_owned());
                let spec = TokenSpec {
                    person,
                    scenario,
                    ..TokenSpec::default()
                };
                let note = Claims::read(&spec.mint()).unwrap().note().unwrap();
                assert_eq!((note.scenario, &*note.person), (scenario, name));
            }
        }
    }

    #[test]
    fn no_two_tokens_are_equal_and_one_person_keeps_one_device() {
        let person = Some("Jane Doe".to_owned());
        let spec = TokenSpec {
            person,
            ..TokenSpec::default()
        };
        let [one, two] = [spec.mint(), spec.mint()];
        assert_ne!(one, two);
        let device = |token: &str| Claims::read(token).unwrap().private.device_id;
        assert_eq!(device(&one), device(&two));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let person = Some("山\n".repeat(1000));
        let spec = TokenSpec {
            person,
            ..TokenSpec::default()
        };
        let note = Claims::read(&spec.mint()).unwrap().note().unwrap();
        assert_eq!(note.person, "山".repeat(66));
    }

    #[test]
    fn a_token_is_valid_until_the_second_of_its_expiry() {
        let issued_at = UNIX_EPOCH + Duration::from_secs(1_000);
        let spec = TokenSpec {
            issued_at,
            ..TokenSpec::default()
        };
        let claims = Claims::read(&spec.mint()).unwrap();
        assert!(!claims.expired(UNIX_EPOCH + Duration::from_secs(1_299)));
        assert!(claims.expired(UNIX_EPOCH + Duration::from_secs(1_300)));
    }

    #[test]
    fn an_opaque_token_has_no_claims() {
        for token in ["Atza|IwEBIA", "", "a.b.c", "a.e30.c"] {
            assert!(Claims::read(token).is_none(), "{token}");
        }
    }
}
