//! The speaker. A person is computed from the token alone, so a test knows the right
//! response to each of its tokens and sees a response that went to the wrong caller.

use super::token::{Claims, Note};

/// What the mock knows about the speaker behind a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Person {
    /// The full name.
    pub name: String,
    /// The first word of the name.
    pub given_name: String,
    /// The country code of the mobile number, such as `+49`.
    pub country_code: &'static str,
    /// The mobile number without its country code.
    pub phone_number: String,
}

/// Given and family names of people without a name of their own. Several are
/// not ASCII, so that a reader which splits characters shows.
const NAMES: [(&str, &str); 8] = [
    ("Jane", "Doe"),
    ("José", "García"),
    ("Zoë", "Müller"),
    ("太郎", "山田"),
    ("Søren", "Ångström"),
    ("Priya", "शर्मा"),
    ("Łukasz", "Wójcik"),
    ("Mary", "O'Neill"),
];

const COUNTRY_CODES: [&str; 6] = ["+1", "+49", "+44", "+91", "+81", "+61"];

impl Person {
    /// Returns the person behind a token, minted or not. The same token always
    /// yields the same person; two tokens without a name yield two persons.
    #[must_use]
    pub fn of_token(token: &str) -> Self {
        let note = Claims::read(token).and_then(|claims| claims.note());
        Self::behind(token, note.as_ref())
    }

    /// [`Person::of_token`] for a token that has been read already.
    pub(super) fn behind(token: &str, note: Option<&Note>) -> Self {
        match note {
            Some(Note { person, .. }) if !person.is_empty() => Self::named(person.clone()),
            Some(note) => Self::unnamed(&note.nonce),
            None => Self::unnamed(token),
        }
    }

    /// A mail address that no one can have.
    #[must_use]
    pub fn email(&self) -> String {
        format!("{}@example.com", self.phone_number.replace('-', ""))
    }

    /// Someone with a name that tells them from everyone else, in both forms.
    fn unnamed(seed: &str) -> Self {
        let number = number(seed);
        let (given, family) = NAMES[number as usize % NAMES.len()];
        // 48 bits: among a million people, two share a tag once in 500 times.
        Self::named(format!("{given}-{:012x} {family}", number >> 16))
    }

    /// Someone with the given name; the rest follows from it.
    fn named(name: String) -> Self {
        let number = number(&name);
        let digits = format!("{:010}", (number >> 8) % 10_000_000_000);
        let (head, tail) = digits.split_at(4);
        Self {
            given_name: name.split_whitespace().next().unwrap_or(&name).to_owned(),
            country_code: COUNTRY_CODES[number as usize % COUNTRY_CODES.len()],
            phone_number: format!("{head}-{tail}"),
            name,
        }
    }
}

/// A number that follows from the seed and looks unrelated to it.
fn number(seed: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(seed.as_bytes()).as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::TokenSpec;
    use super::*;

    #[test]
    fn tokens_without_a_name_belong_to_distinct_people() {
        let spec = TokenSpec::default();
        let people: Vec<_> = (0..500).map(|_| Person::of_token(&spec.mint())).collect();
        let distinct =
            |of: fn(&Person) -> &str| people.iter().map(of).collect::<HashSet<_>>().len();
        assert_eq!(distinct(|person| &person.name), people.len());
        assert_eq!(distinct(|person| &person.given_name), people.len());
        assert!(people.iter().any(|person| !person.name.is_ascii()));
    }

    #[test]
    fn a_token_always_belongs_to_the_same_person() {
        for token in [TokenSpec::default().mint(), "Atza|opaque".to_owned()] {
            assert_eq!(Person::of_token(&token), Person::of_token(&token));
        }
        assert_ne!(Person::of_token("Atza|one"), Person::of_token("Atza|two"));
    }

    #[test]
    fn a_named_person_has_that_name_and_one_number() {
        let person = Some("Jane Mary Doe".to_owned());
        let spec = TokenSpec {
            person,
            ..TokenSpec::default()
        };
        let jane = Person::of_token(&spec.mint());
        assert_eq!((&*jane.name, &*jane.given_name), ("Jane Mary Doe", "Jane"));
        assert!((1..=20).contains(&jane.phone_number.len()));
        assert_eq!(jane, Person::of_token(&spec.mint()));
    }
}
