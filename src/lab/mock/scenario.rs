//! The response that a minted token asks the mock for; `response` has the bodies.

use crate::lab::names::UnknownName;

/// The response to every request with the token.
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
    /// 429: the skill has been throttled, regardless of the quotas.
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
    fn every_scenario_is_parsed_by_its_name() {
        for scenario in TokenScenario::iter() {
            assert_eq!(scenario.to_string().parse(), Ok(scenario));
        }
    }

    #[test]
    fn the_error_for_an_unknown_scenario_lists_the_known_ones() {
        let refusal = "consent".parse::<TokenScenario>().unwrap_err().to_string();
        assert!(refusal.starts_with("unknown name `consent`: expected one of ok, no-consent,"));
    }
}
