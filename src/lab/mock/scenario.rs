//! What a minted token asks the mock to answer. The bodies are in `answer`.

use crate::lab::names::UnknownName;

/// The answer that a token brings about wherever it is shown.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    strum::Display,
    strum::EnumIter,
    strum::EnumString,
    strum::VariantNames,
)]
#[strum(
    serialize_all = "kebab-case",
    parse_err_ty = UnknownName,
    parse_err_fn = UnknownName::of::<TokenScenario>
)]
pub enum TokenScenario {
    /// The value that was asked for.
    #[default]
    Ok,
    /// 403: the customer has not been asked for consent yet.
    NoConsent,
    /// 403: the skill lacks the permission.
    Forbidden,
    /// 204: the customer has set no value.
    NoValue,
    /// 401: the token is not valid.
    Unauthorized,
    /// 404.
    NotFound,
    /// 429: the skill has been throttled, whatever the quotas say.
    Throttled,
    /// 500.
    Error,
    /// 503: down for maintenance.
    Unavailable,
    /// 400: a property of the request is outside its range.
    BadRequest,
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn every_scenario_reads_back_by_its_name() {
        for scenario in TokenScenario::iter() {
            assert_eq!(scenario.to_string().parse(), Ok(scenario));
        }
    }

    #[test]
    fn an_unknown_scenario_is_told_the_known_ones() {
        let refusal = "consent".parse::<TokenScenario>().unwrap_err().to_string();
        assert!(refusal.starts_with("unknown name `consent`: expected one of ok, no-consent,"));
    }
}
