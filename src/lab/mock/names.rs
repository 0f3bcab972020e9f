//! One place for the names of the mock's enums: what a flag, a JSON field and
//! a message call a variant. Names are exact; there are no synonyms.

use std::fmt;

/// A word that names none of the things it could have named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName {
    pub(super) what: &'static str,
    pub(super) given: String,
    pub(super) known: Vec<&'static str>,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.join(", ");
        write!(f, "unknown {} `{}`: one of {known}", self.what, self.given)
    }
}

impl std::error::Error for UnknownName {}

/// Gives each variant of an enum its one name, and the ways to and from it.
macro_rules! named {
    ($kind:ident, $what:literal, { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $kind {
            /// Every variant, in the order in which they are listed to people.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in flags, JSON and messages.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $kind {
            type Err = $crate::lab::mock::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|known| known.name() == text);
                found.copied().ok_or_else(|| $crate::lab::mock::UnknownName {
                    what: $what,
                    given: text.to_owned(),
                    known: Self::ALL.iter().map(|known| known.name()).collect(),
                })
            }
        }

        impl From<$kind> for String {
            fn from(named: $kind) -> Self {
                named.name().to_owned()
            }
        }

        impl TryFrom<String> for $kind {
            type Error = $crate::lab::mock::UnknownName;

            fn try_from(text: String) -> Result<Self, $crate::lab::mock::UnknownName> {
                text.parse()
            }
        }
    };
}

pub(super) use named;
