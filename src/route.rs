//! Which Alexa region gets a request, and as which resource.
//!
//! [`RouteTable::route`] weighs the evidence that a request carries, in a fixed
//! order, and answers a [`Route`] or says why there is none. A host is only ever
//! *compared* with the table: what is dialled, and what `Host` and SNI say, comes
//! from [`RouteTable::upstream`]. So a bearer token cannot be sent anywhere else,
//! whoever asks. Pure: no I/O, no clock.

pub mod path;
mod upstream_url;

use std::borrow::Cow;
use std::sync::Arc;

use http::uri::PathAndQuery;

use crate::region::Region;
use path::{BadPath, PathTemplate};
pub use upstream_url::UpstreamUrl;

/// What a request and its connection say about the region.
#[derive(Clone, Debug, Default)]
pub struct Evidence<'a> {
    /// The header `Alexa-Api-Endpoint`: the skill's `context.System.apiEndpoint`.
    pub api_endpoint: Option<&'a str>,
    /// The authority of an absolute-form request target (RFC 9112 §3.2.2).
    pub absolute_form: Option<&'a str>,
    /// The `Host`, or HTTP/2's `:authority`. Most often the gateway's own name,
    /// so it is evidence only where it is a name of a region.
    pub host: Option<&'a str>,
    /// The region that the listener is bound to.
    pub listener: Option<Region>,
    /// The token's `aud`.
    pub audience: Option<&'a str>,
    /// The request's path.
    pub path: &'a str,
    /// The request's query.
    pub query: Option<&'a str>,
    /// Both as one, which is shared rather than copied where nothing of it changes.
    pub target: Option<&'a PathAndQuery>,
}

/// What decided on the region, in the order in which it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The header `Alexa-Api-Endpoint`.
    ApiEndpoint,
    /// The absolute-form request target.
    AbsoluteForm,
    /// The `Host`.
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
    /// The word for logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ApiEndpoint => "api_endpoint",
            Self::AbsoluteForm => "absolute_form",
            Self::Host => "host",
            Self::Prefix => "prefix",
            Self::Listener => "listener",
            Self::Audience => "audience",
            Self::Default => "default",
        }
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// The region.
    pub region: Region,
    /// What the region was read from.
    pub decider: Decider,
    /// The token is meant for this other region, and something explicit won.
    pub contradicts_audience: Option<Region>,
    /// Path and query as they go upstream: the caller's own, without the region
    /// prefix, and canonical where a rule matches.
    pub target: PathAndQuery,
    /// The rule whose template the path is an instance of.
    pub rule: Option<Arc<Rule>>,
}

impl Route {
    /// The path for logs: the rule's template, or the path with every segment
    /// left out that could be an id.
    #[must_use]
    pub fn label(&self) -> Arc<str> {
        match &self.rule {
            Some(rule) => rule.template.shared(),
            None => path::redact(self.target.path()).into(),
        }
    }
}

/// A GET template whose answers may be shared between equal requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rule's name in the configuration and in metrics.
    pub name: String,
    /// The paths it is about.
    pub template: PathTemplate,
    /// What may be done with its answers.
    pub freshness: crate::cache::policy::Freshness,
}

/// Why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// This evidence names a host outside the region table.
    #[error("{0} names no Alexa region")]
    Misdirected(&'static str),
    /// The path is refused.
    #[error("{0}")]
    BadPath(BadPath),
}

/// The regions, their names and upstreams, and the rules.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Where each region's calls go, by [`Region::index`].
    upstreams: [UpstreamUrl; 3],
    /// Further hosts by which requests may name a region.
    aliases: Vec<(String, Region)>,
    /// The region when nothing says otherwise.
    default_region: Region,
    /// In the order in which they are tried.
    rules: Vec<Arc<Rule>>,
}

impl RouteTable {
    /// Builds a table; `upstreams` is in the order of [`Region::ALL`].
    #[must_use]
    pub fn new(
        upstreams: [UpstreamUrl; 3],
        aliases: Vec<(String, Region)>,
        default_region: Region,
        rules: Vec<Arc<Rule>>,
    ) -> Self {
        Self {
            upstreams,
            aliases,
            default_region,
            rules,
        }
    }

    /// Where calls to `region` go.
    #[must_use]
    pub fn upstream(&self, region: Region) -> &UpstreamUrl {
        &self.upstreams[region.index()]
    }

    /// The rules, in the order in which they are tried.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Decides where a request goes.
    ///
    /// # Errors
    /// Explicit evidence names a host outside the table, or the path or the
    /// `Host` is not acceptable.
    pub fn route(&self, evidence: &Evidence<'_>) -> Result<Route, RouteError> {
        let (prefix, path) = split_prefix(evidence.path);
        let canonical = path::canonical(path).map_err(RouteError::BadPath)?;
        let audience = evidence.audience.and_then(|url| self.region_of_url(url));
        let (region, decider) = match self.explicit(evidence, prefix)? {
            Some(found) => found,
            None => match audience {
                Some(region) => (region, Decider::Audience),
                None => (self.default_region, Decider::Default),
            },
        };
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.template.matches(&canonical));
        let (path, query) = match rule {
            Some(_) => (&*canonical, evidence.query.map(path::canonical_query)),
            None => (path, evidence.query.map(Cow::Borrowed)),
        };
        let unchanged = evidence
            .target
            .filter(|asked| path == asked.path() && query.as_deref() == asked.query());
        let target = match unchanged {
            Some(asked) => Ok(asked.clone()),
            None => join_query(path, query),
        };
        Ok(Route {
            region,
            decider,
            contradicts_audience: audience.filter(|&meant| meant != region),
            target: target.map_err(|_| RouteError::BadPath(BadPath::NotAbsolute))?,
            rule: rule.cloned(),
        })
    }

    /// The first evidence, other than the token's, that names a region.
    fn explicit(
        &self,
        evidence: &Evidence<'_>,
        prefix: Option<Region>,
    ) -> Result<Option<(Region, Decider)>, RouteError> {
        let judged = |named: Option<Option<Region>>, what, decider| match named {
            Some(None) => Err(RouteError::Misdirected(what)),
            Some(Some(region)) => Ok(Some((region, decider))),
            None => Ok(None),
        };
        // Each is judged, also where another one decides.
        let endpoint = evidence.api_endpoint.map(|url| self.region_of_url(url));
        let endpoint = judged(
            endpoint,
            "the header Alexa-Api-Endpoint",
            Decider::ApiEndpoint,
        )?;
        let target = evidence
            .absolute_form
            .map(|authority| self.region_of_authority(authority));
        let target = judged(target, "the request target", Decider::AbsoluteForm)?;
        if let Some(found) = endpoint.or(target) {
            return Ok(Some(found));
        }
        if let Some(region) = evidence
            .host
            .and_then(|host| self.region_of_authority(host))
        {
            return Ok(Some((region, Decider::Host)));
        }
        Ok(prefix
            .map(|region| (region, Decider::Prefix))
            .or(evidence.listener.map(|region| (region, Decider::Listener))))
    }

    /// The region that an endpoint URL such as `https://api.eu.amazonalexa.com` names.
    fn region_of_url(&self, url: &str) -> Option<Region> {
        // As it mostly is.
        if let Some(region) = Region::ALL.into_iter().find(|r| r.endpoint() == url) {
            return Some(region);
        }
        let (scheme, rest) = url.trim().split_once("://")?;
        let is_http = ["https", "http"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known));
        let rest = Some(rest).filter(|_| is_http)?;
        let authority = rest.split(['/', '?', '#']).next()?;
        self.region_of_authority(authority)
    }

    /// The region that `host` or `host:port` names. A region's public hosts are
    /// named without port or with their scheme's own; an upstream that the
    /// operator configured is named exactly as configured.
    fn region_of_authority(&self, authority: &str) -> Option<Region> {
        let host = authority
            .strip_suffix(":443")
            .or_else(|| authority.strip_suffix(":80"))
            .unwrap_or(authority);
        let host = host.strip_suffix('.').unwrap_or(host);
        let public = Region::ALL
            .into_iter()
            .find(|r| host.eq_ignore_ascii_case(r.host()));
        public
            .or_else(|| {
                let alias = self
                    .aliases
                    .iter()
                    .find(|(name, _)| host.eq_ignore_ascii_case(name));
                alias.map(|&(_, region)| region)
            })
            .or_else(|| self.region_of_upstream(authority))
    }

    fn region_of_upstream(&self, authority: &str) -> Option<Region> {
        let mut named = Region::ALL.into_iter().filter(|&region| {
            let upstream = self.upstream(region);
            upstream.authority().eq_ignore_ascii_case(authority)
        });
        // One upstream for several regions names none of them.
        named.next().filter(|_| named.next().is_none())
    }
}

/// Takes a leading `/na`, `/eu` or `/fe` off a path.
fn split_prefix(path: &str) -> (Option<Region>, &str) {
    for region in Region::ALL {
        let rest = path
            .strip_prefix('/')
            .and_then(|p| p.strip_prefix(region.name()));
        match rest {
            Some("") => return (Some(region), "/"),
            Some(rest) if rest.starts_with('/') => return (Some(region), rest),
            _ => {}
        }
    }
    (None, path)
}

fn join_query(
    path: &str,
    query: Option<Cow<'_, str>>,
) -> Result<PathAndQuery, http::uri::InvalidUri> {
    match query {
        Some(query) => format!("{path}?{query}").parse(),
        None => path.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::policy::Freshness;

    fn table() -> RouteTable {
        let upstreams = Region::ALL
            .map(|region| UpstreamUrl::parse(&format!("https://{}", region.host())).unwrap());
        let rule = Rule {
            name: "person_name".into(),
            template: PathTemplate::parse("/v2/persons/~current/profile/name").unwrap(),
            freshness: Freshness::default(),
        };
        let aliases = vec![("api.fe.amazon.com".into(), Region::Fe)];
        RouteTable::new(upstreams, aliases, Region::Na, vec![Arc::new(rule)])
    }

    fn decide(evidence: Evidence<'_>) -> Result<(Region, Decider), RouteError> {
        table()
            .route(&evidence)
            .map(|route| (route.region, route.decider))
    }

    /// Evidence of every kind, each for a region of its own.
    fn everything() -> Evidence<'static> {
        Evidence {
            api_endpoint: Some("https://api.fe.amazonalexa.com"),
            absolute_form: Some("api.eu.amazonalexa.com"),
            host: Some("api.amazonalexa.com"),
            listener: Some(Region::Eu),
            audience: Some("https://api.amazonalexa.com"),
            path: "/fe/v2/x",
            query: None,
            target: None,
        }
    }

    #[test]
    fn evidence_is_asked_in_order() {
        let mut evidence = everything();
        assert_eq!(
            decide(evidence.clone()),
            Ok((Region::Fe, Decider::ApiEndpoint))
        );
        evidence.api_endpoint = None;
        assert_eq!(
            decide(evidence.clone()),
            Ok((Region::Eu, Decider::AbsoluteForm))
        );
        evidence.absolute_form = None;
        assert_eq!(decide(evidence.clone()), Ok((Region::Na, Decider::Host)));
        evidence.host = Some("gateway.internal:2773");
        assert_eq!(decide(evidence.clone()), Ok((Region::Fe, Decider::Prefix)));
        evidence.path = "/v2/x";
        assert_eq!(
            decide(evidence.clone()),
            Ok((Region::Eu, Decider::Listener))
        );
        evidence.listener = None;
        evidence.audience = Some("https://api.eu.amazonalexa.com");
        assert_eq!(
            decide(evidence.clone()),
            Ok((Region::Eu, Decider::Audience))
        );
        evidence.audience = None;
        assert_eq!(decide(evidence), Ok((Region::Na, Decider::Default)));
    }

    #[test]
    fn a_region_has_several_names() {
        for endpoint in [
            "https://api.fe.amazonalexa.com",
            "https://api.fe.amazonalexa.com/",
            "HTTPS://API.FE.amazonalexa.com:443",
            "https://api.fe.amazon.com",
        ] {
            let evidence = Evidence {
                api_endpoint: Some(endpoint),
                path: "/",
                ..Evidence::default()
            };
            assert_eq!(
                decide(evidence),
                Ok((Region::Fe, Decider::ApiEndpoint)),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn an_endpoint_outside_the_table_is_misdirected() {
        for endpoint in [
            "https://evil.example",
            "https://api---fe.amazon.com.rproxy.goskope.com",
            "https://api.eu.amazonalexa.com.evil.example",
            "https://api.eu.amazonalexa.com@evil.example",
            "https://evil@api.eu.amazonalexa.com",
            "https://api.eu.amazonalexa.com:8443",
            "https://evil.example/https://api.eu.amazonalexa.com",
            "https://evil.example\\@api.eu.amazonalexa.com",
            "ftp://api.eu.amazonalexa.com",
            "api.eu.amazonalexa.com",
            "",
        ] {
            let evidence = Evidence {
                api_endpoint: Some(endpoint),
                path: "/",
                ..Evidence::default()
            };
            assert!(
                matches!(decide(evidence), Err(RouteError::Misdirected(_))),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn an_absolute_target_outside_the_table_is_misdirected() {
        for authority in ["evil.example", "localhost:2773", "a@api.eu.amazonalexa.com"] {
            let evidence = Evidence {
                absolute_form: Some(authority),
                path: "/",
                ..Evidence::default()
            };
            assert!(
                matches!(decide(evidence), Err(RouteError::Misdirected(_))),
                "{authority}"
            );
        }
    }

    #[test]
    fn the_audience_never_names_a_host_outside_the_table() {
        let evidence = Evidence {
            audience: Some("https://evil.example"),
            path: "/",
            ..Evidence::default()
        };
        assert_eq!(decide(evidence), Ok((Region::Na, Decider::Default)));
    }

    #[test]
    fn explicit_evidence_beats_the_audience_and_the_contradiction_is_told() {
        let route = table().route(&everything()).unwrap();
        assert_eq!(
            (route.region, route.contradicts_audience),
            (Region::Fe, Some(Region::Na))
        );
    }

    #[test]
    fn the_prefix_is_removed_even_where_it_does_not_decide() {
        let route = table().route(&everything()).unwrap();
        assert_eq!(route.target, "/v2/x");
        for (path, target) in [("/eu", "/"), ("/eu/", "/"), ("/europe/x", "/europe/x")] {
            let route = table()
                .route(&Evidence {
                    path,
                    ..Evidence::default()
                })
                .unwrap();
            assert_eq!(route.target, target);
        }
    }

    #[test]
    fn a_prefix_cannot_smuggle_a_second_slash() {
        let evidence = Evidence {
            path: "/eu//evil.example",
            ..Evidence::default()
        };
        assert_eq!(
            decide(evidence),
            Err(RouteError::BadPath(BadPath::LeadingDoubleSlash))
        );
    }

    #[test]
    fn a_ruled_path_goes_upstream_canonical_and_any_other_untouched() {
        let route = |path, query| {
            table()
                .route(&Evidence {
                    path,
                    query,
                    ..Evidence::default()
                })
                .unwrap()
        };
        let ruled = route("/eu/v2/persons/%7Ecurrent/profile/name", Some("a=%7e"));
        assert_eq!(ruled.target, "/v2/persons/~current/profile/name?a=~");
        assert_eq!(ruled.rule.unwrap().name, "person_name");
        let other = route("/v1/%7Ethings", Some("a=%7e"));
        assert_eq!(other.target, "/v1/%7Ethings?a=%7e");
        assert!(other.rule.is_none());
    }

    #[test]
    fn one_upstream_for_all_regions_names_none() {
        let shared = UpstreamUrl::parse("http://127.0.0.1:9/eu").unwrap();
        let table = RouteTable::new(
            [shared.clone(), shared.clone(), shared],
            vec![],
            Region::Na,
            vec![],
        );
        let evidence = Evidence {
            absolute_form: Some("127.0.0.1:9"),
            path: "/",
            ..Evidence::default()
        };
        assert!(table.route(&evidence).is_err());
        let uri = table
            .upstream(Region::Eu)
            .join(&PathAndQuery::from_static("/v2?x"))
            .unwrap();
        assert_eq!(uri, "http://127.0.0.1:9/eu/v2?x");
    }
}
