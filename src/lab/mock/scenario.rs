//! What a minted token asks the mock to answer. The bodies are in `answer`.

use super::names::named;

/// The answer that a token brings about wherever it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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

named!(TokenScenario, "scenario", {
    Ok = "ok",
    NoConsent = "no-consent",
    Forbidden = "forbidden",
    NoValue = "no-value",
    Unauthorized = "unauthorized",
    NotFound = "not-found",
    Throttled = "throttled",
    Error = "error",
    Unavailable = "unavailable",
    BadRequest = "bad-request",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_reads_back_by_its_name() {
        for &scenario in TokenScenario::ALL {
            assert_eq!(scenario.to_string().parse(), Ok(scenario));
        }
    }

    #[test]
    fn an_unknown_scenario_is_told_the_known_ones() {
        let refusal = "consent".parse::<TokenScenario>().unwrap_err().to_string();
        assert!(refusal.starts_with("unknown scenario `consent`: one of ok, no-consent,"));
    }
}
