//! The tokens of a simulation: of real size, readable by the gateway, and cheap.
//!
//! Header and claims are made once per skill and region. Only the signature, which
//! nobody can check, differs between turns; it encodes region and skill for the model.

use std::io::Write as _;
use std::time::Duration;

use http::HeaderValue;

use crate::lab::mock::TokenSpec;
use crate::region::Region;
use crate::token::SkillId;

/// The length of an RS256 signature in base64.
const SIGNATURE: usize = 342;

/// Longer than any trace: `exp` is compared with the wall clock.
const LIFETIME: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The tokens of one skill in each region.
pub(super) struct Tokens {
    /// Everything before the signature, by [`Region::index`].
    prefixes: [Vec<u8>; 3],
    skill: u32,
}

impl Tokens {
    /// Creates tokens that name a skill, or opaque ones without an id.
    pub(super) fn new(id: Option<&SkillId>, skill: u32) -> Self {
        let prefix = |region| {
            let Some(id) = id else {
                return b"Bearer Atza|".to_vec();
            };
            let token = TokenSpec {
                region,
                skill: id.as_str().to_owned(),
                lifetime: LIFETIME,
                ..TokenSpec::default()
            };
            let token = token.mint();
            let end = token.rfind('.').map_or(0, |dot| dot + 1);
            let mut prefix = b"Bearer ".to_vec();
            prefix.extend_from_slice(&token.as_bytes()[..end]);
            prefix
        };
        Self {
            prefixes: Region::ALL.map(prefix),
            skill,
        }
    }

    /// Returns the credentials of one turn.
    pub(super) fn of(&self, region: Region, turn: u32) -> HeaderValue {
        let prefix = &self.prefixes[region.index()];
        let mut token = Vec::with_capacity(prefix.len() + SIGNATURE);
        token.extend_from_slice(prefix);
        // Writing to a vector cannot fail.
        write!(token, "{}-{}-{turn}-", region.index(), self.skill).ok();
        token.resize(prefix.len() + SIGNATURE, b'A');
        HeaderValue::from_maybe_shared(bytes::Bytes::from(token))
            .expect("base64 and digits are a header value")
    }
}

/// Reads the region and the skill number from credentials.
pub(super) fn owner(credentials: &HeaderValue) -> Option<(Region, u32)> {
    let bytes = credentials.as_bytes();
    let signature = bytes.get(bytes.len().checked_sub(SIGNATURE)?..)?;
    let mut fields = signature.split(|&byte| byte == b'-').map(str::from_utf8);
    let mut number = || fields.next()?.ok()?.parse::<u32>().ok();
    let (region, skill) = (number()?, number()?);
    Some((*Region::ALL.get(region as usize)?, skill))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::BearerToken;
    use http::HeaderMap;
    use http::header::AUTHORIZATION;

    #[test]
    fn the_gateway_reads_the_skill_and_the_model_its_number() {
        let id = SkillId::parse("amzn1.ask.skill.one").unwrap();
        let tokens = Tokens::new(Some(&id), 41);
        let credentials = tokens.of(Region::Eu, 7);
        assert!((1750..=1950).contains(&credentials.len()));
        assert_eq!(owner(&credentials), Some((Region::Eu, 41)));
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, credentials);
        let claims = BearerToken::take(&mut headers).unwrap().unwrap().claims();
        assert_eq!(claims.skill, Some(id));
        assert_eq!(claims.audience.unwrap(), "https://api.eu.amazonalexa.com");
    }

    #[test]
    fn tokens_differ_by_turn_also_if_they_are_opaque() {
        let tokens = Tokens::new(None, 3);
        assert_ne!(tokens.of(Region::Na, 1), tokens.of(Region::Na, 2));
        assert_eq!(tokens.of(Region::Na, 1), tokens.of(Region::Na, 1));
        assert_eq!(owner(&tokens.of(Region::Fe, 9)), Some((Region::Fe, 3)));
    }
}
