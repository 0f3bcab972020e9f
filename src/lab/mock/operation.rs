//! The operations of the mock: which one a request names, and its response. Pure. Values
//! other than a person's are the same for everyone.

use http::Method;
use serde_json::{Value, json};

use super::behaviour::NameShape;
use super::person::Person;
use super::response::MockResponse;

/// Something that the mock can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    PersonName,
    PersonGivenName,
    PersonMobileNumber,
    AccountName,
    AccountGivenName,
    AccountEmail,
    AccountMobileNumber,
    TimeZone,
    DistanceUnits,
    TemperatureUnit,
    Address,
    CountryAndPostalCode,
    InSkillProducts,
    Directive,
    /// Any other path below a known version: returns what was received.
    Echo,
    /// Any other path.
    Unknown,
}

impl Operation {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let path: Vec<_> = path.split('/').skip(1).map(plain).collect();
        match (method.as_str(), &path[..]) {
            ("GET", ["v2", "persons", "~current", "profile", what]) => match *what {
                "name" => Self::PersonName,
                "givenName" => Self::PersonGivenName,
                "mobileNumber" => Self::PersonMobileNumber,
                _ => Self::Echo,
            },
            ("GET", ["v2", "accounts", "~current", "settings", what]) => match *what {
                "Profile.name" => Self::AccountName,
                "Profile.givenName" => Self::AccountGivenName,
                "Profile.email" => Self::AccountEmail,
                "Profile.mobileNumber" => Self::AccountMobileNumber,
                _ => Self::Echo,
            },
            ("GET", ["v2", "devices", _, "settings", what]) => match *what {
                "System.timeZone" => Self::TimeZone,
                "System.distanceUnits" => Self::DistanceUnits,
                "System.temperatureUnit" => Self::TemperatureUnit,
                _ => Self::Echo,
            },
            ("GET", ["v1", "devices", _, "settings", "address"]) => Self::Address,
            (
                "GET",
                [
                    "v1",
                    "devices",
                    _,
                    "settings",
                    "address",
                    "countryAndPostalCode",
                ],
            ) => Self::CountryAndPostalCode,
            (
                "GET",
                [
                    "v1",
                    "users",
                    "~current",
                    "skills",
                    "~current",
                    "inSkillProducts",
                ],
            ) => Self::InSkillProducts,
            ("POST", ["v1", "directives"]) => Self::Directive,
            (_, ["v1" | "v2" | "v3", _, ..]) => Self::Echo,
            _ => Self::Unknown,
        }
    }

    /// Returns the path template for the counters, without identifiers.
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::PersonName => "/v2/persons/~current/profile/name",
            Self::PersonGivenName => "/v2/persons/~current/profile/givenName",
            Self::PersonMobileNumber => "/v2/persons/~current/profile/mobileNumber",
            Self::AccountName => "/v2/accounts/~current/settings/Profile.name",
            Self::AccountGivenName => "/v2/accounts/~current/settings/Profile.givenName",
            Self::AccountEmail => "/v2/accounts/~current/settings/Profile.email",
            Self::AccountMobileNumber => "/v2/accounts/~current/settings/Profile.mobileNumber",
            Self::TimeZone => "/v2/devices/{deviceId}/settings/System.timeZone",
            Self::DistanceUnits => "/v2/devices/{deviceId}/settings/System.distanceUnits",
            Self::TemperatureUnit => "/v2/devices/{deviceId}/settings/System.temperatureUnit",
            Self::Address => "/v1/devices/{deviceId}/settings/address",
            Self::CountryAndPostalCode => {
                "/v1/devices/{deviceId}/settings/address/countryAndPostalCode"
            }
            Self::InSkillProducts => "/v1/users/~current/skills/~current/inSkillProducts",
            Self::Directive => "/v1/directives",
            Self::Echo => "other",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the response; `echo` describes the request.
    pub(super) fn answer(self, person: &Person, shape: NameShape, echo: Value) -> MockResponse {
        let name = |name: &str| match shape {
            NameShape::Object => json!({"name": name}),
            NameShape::String => json!(name),
        };
        let mobile = json!({
            "countryCode": person.country_code,
            "phoneNumber": person.phone_number,
        });
        MockResponse::json(match self {
            Self::PersonName => name(&person.name),
            Self::PersonGivenName => name(&person.given_name),
            Self::PersonMobileNumber | Self::AccountMobileNumber => mobile,
            Self::AccountName => json!(person.name),
            Self::AccountGivenName => json!(person.given_name),
            Self::AccountEmail => json!(person.email()),
            Self::TimeZone => json!("Europe/Berlin"),
            Self::DistanceUnits => json!("METRIC"),
            Self::TemperatureUnit => json!("CELSIUS"),
            Self::Address => json!({
                "addressLine1": "Invalidenstraße 43",
                "addressLine2": null,
                "addressLine3": null,
                "districtOrCounty": null,
                "stateOrRegion": "Berlin",
                "city": "Berlin",
                "countryCode": "DE",
                "postalCode": "10115",
            }),
            Self::CountryAndPostalCode => json!({"countryCode": "DE", "postalCode": "10115"}),
            Self::InSkillProducts => json!({
                "inSkillProducts": [],
                "isTruncated": false,
                "nextToken": null,
            }),
            Self::Echo => echo,
            Self::Directive => return MockResponse::no_content(),
            Self::Unknown => return MockResponse::not_found(),
        })
    }
}

/// Undoes the one escape that clients use, `%7Ecurrent`.
fn plain(segment: &str) -> &str {
    if segment.eq_ignore_ascii_case("%7Ecurrent") {
        return "~current";
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Operation {
        Operation::of(&Method::GET, path)
    }

    #[test]
    fn both_spellings_of_the_current_person_are_the_same_resource() {
        for current in ["~current", "%7Ecurrent", "%7ecurrent"] {
            let path = format!("/v2/persons/{current}/profile/mobileNumber");
            assert_eq!(get(&path), Operation::PersonMobileNumber);
        }
    }

    #[test]
    fn every_template_names_its_own_operation() {
        use Operation as Op;
        let listed = [
            Op::PersonName,
            Op::PersonGivenName,
            Op::AccountName,
            Op::AccountGivenName,
            Op::AccountEmail,
            Op::AccountMobileNumber,
            Op::TimeZone,
            Op::DistanceUnits,
            Op::TemperatureUnit,
            Op::Address,
            Op::CountryAndPostalCode,
            Op::InSkillProducts,
        ];
        for operation in listed {
            assert_eq!(get(operation.template()), operation);
        }
    }

    #[test]
    fn other_paths_are_echoed_below_a_version_and_unknown_elsewhere() {
        assert_eq!(get("/v1/alerts/reminders"), Operation::Echo);
        assert_eq!(Operation::of(&Method::PUT, "/v3/events"), Operation::Echo);
        assert_eq!(
            Operation::of(&Method::POST, "/v1/directives"),
            Operation::Directive
        );
        for path in ["/", "/v1", "/v4/events", "/favicon.ico"] {
            assert_eq!(get(path), Operation::Unknown, "{path}");
        }
    }
}
