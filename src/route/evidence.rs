//! What a request says about its region.

use http::uri::PathAndQuery;

use crate::region::Region;

/// What a request and its connection say about the region.
#[derive(Clone, Debug, Default)]
pub struct Evidence<'a> {
    /// The header `Alexa-Api-Endpoint`: the skill's `context.System.apiEndpoint`.
    pub api_endpoint: Option<&'a str>,
    /// The authority of an absolute-form request target (RFC 9112 §3.2.2).
    pub absolute_form: Option<&'a str>,
    /// `Host`, or `:authority` in HTTP/2. Usually the gateway's own name; it counts only
    /// if it names a region.
    pub host: Option<&'a str>,
    /// The region configured for the listener.
    pub listener: Option<Region>,
    /// The token's `aud`.
    pub audience: Option<&'a str>,
    /// The request's path.
    pub path: &'a str,
    /// The request's query.
    pub query: Option<&'a str>,
    /// Path and query in one, to be shared instead of copied if the route changes neither.
    pub target: Option<&'a PathAndQuery>,
}

/// The evidence that decided the region, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Decider {
    /// The header `Alexa-Api-Endpoint`.
    ApiEndpoint,
    /// The absolute-form request target.
    AbsoluteForm,
    /// `Host` or `:authority`.
    Host,
    /// The path prefix `/na`, `/eu` or `/fe`.
    Prefix,
    /// The listener.
    Listener,
    /// The token's `aud`.
    Audience,
    /// `routing.default_region`.
    Default,
}

impl Decider {
    /// The name in logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}
