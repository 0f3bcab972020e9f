//! What a flag, a JSON value or a script says when it gets a name that it does not
//! know. Names are exact; there are no synonyms.

use strum::VariantNames;

/// A name that stands for none of the values that were expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown name `{given}`: expected one of {}", known.join(", "))]
pub struct UnknownName {
    given: String,
    known: Vec<&'static str>,
}

impl UnknownName {
    /// Describes `given`, which names no variant of `T`.
    #[must_use]
    pub fn of<T: VariantNames>(given: &str) -> Self {
        Self {
            given: given.to_owned(),
            known: T::VARIANTS.to_vec(),
        }
    }

    /// Adds a name that was expected as well, before the others.
    #[must_use]
    pub fn or(mut self, name: &'static str) -> Self {
        self.known.insert(0, name);
        self
    }
}
