//! A skill's id, `amzn1.ask.skill.<uuid>`. It names an application, not a person, and may
//! be logged.

use std::fmt;
use std::sync::Arc;

/// A skill's id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SkillId(Arc<str>);

impl SkillId {
    /// Accepts what has the shape of a skill id and nothing else: the `sub` of other
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_skill_ids_are_accepted() {
        assert!(SkillId::parse("amzn1.ask.skill.0f6c1b2a-1").is_some());
        for text in [
            "amzn1.account.AEX",
            "amzn1.ask.skill.",
            "amzn1.ask.skill.a b",
            &format!("amzn1.ask.skill.{}", "a".repeat(65)),
        ] {
            assert_eq!(SkillId::parse(text), None, "{text}");
        }
    }
}
