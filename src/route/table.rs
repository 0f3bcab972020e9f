//! The regions with their names, upstreams and rules.

use std::borrow::Cow;
use std::sync::Arc;

use http::uri::{InvalidUri, PathAndQuery};

use super::decision::{Route, RouteError};
use super::evidence::{Decider, Evidence};
use super::path::{self, BadPath};
use super::rule::Rule;
use super::upstream_url::UpstreamUrl;
use crate::region::Region;

/// The regions with their names, upstreams and rules.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// By [`Region::index`].
    upstreams: [UpstreamUrl; 3],
    /// Additional host names of the regions.
    aliases: Vec<(String, Region)>,
    /// The region of requests without evidence.
    default_region: Region,
    /// The first that matches applies.
    rules: Vec<Arc<Rule>>,
}

impl RouteTable {
    /// Builds a table. `upstreams` is in the order of [`Region::ALL`].
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

    /// The base URL of calls to `region`.
    #[must_use]
    pub fn upstream(&self, region: Region) -> &UpstreamUrl {
        &self.upstreams[region.index()]
    }

    /// The rules. The first that matches a request applies.
    #[must_use]
    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// Decides where a request goes.
    ///
    /// # Errors
    /// The endpoint header or the request target names a host that is not a region's, or
    /// the path is not accepted.
    pub fn route(&self, evidence: &Evidence<'_>) -> Result<Route, RouteError> {
        let (prefix, path) = split_prefix(evidence.path);
        let canonical = path::canonical(path)?;
        let audience = evidence.audience.and_then(|url| self.region_of_url(url));
        let (region, decider) = self
            .explicit(evidence, prefix)?
            .or(audience.map(|region| (region, Decider::Audience)))
            .unwrap_or((self.default_region, Decider::Default));
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
            .filter(|target| path == target.path() && query.as_deref() == target.query());
        let target = match unchanged {
            Some(target) => Ok(target.clone()),
            None => join_query(path, query),
        };
        Ok(Route {
            region,
            decider,
            contradicts_audience: audience.filter(|&named| named != region),
            target: target.map_err(|_| BadPath::NotAbsolute)?,
            rule: rule.cloned(),
        })
    }

    /// The region that the request or its listener names, and by what.
    fn explicit(
        &self,
        evidence: &Evidence<'_>,
        prefix: Option<Region>,
    ) -> Result<Option<(Region, Decider)>, RouteError> {
        // Both are checked, even if the first one decides.
        let endpoint = evidence.api_endpoint.map(|url| {
            let misdirected = RouteError::Misdirected("the header Alexa-Api-Endpoint");
            self.region_of_url(url).ok_or(misdirected)
        });
        let absolute_form = evidence.absolute_form.map(|authority| {
            let misdirected = RouteError::Misdirected("the request target");
            self.region_of_authority(authority).ok_or(misdirected)
        });
        let (endpoint, absolute_form) = (endpoint.transpose()?, absolute_form.transpose()?);
        let host = || self.region_of_authority(evidence.host?);
        let by = |decider| move |region| (region, decider);
        Ok(endpoint
            .map(by(Decider::ApiEndpoint))
            .or(absolute_form.map(by(Decider::AbsoluteForm)))
            .or_else(|| host().map(by(Decider::Host)))
            .or(prefix.map(by(Decider::Prefix)))
            .or(evidence.listener.map(by(Decider::Listener))))
    }

    /// The region of an endpoint URL such as `https://api.eu.amazonalexa.com`.
    fn region_of_url(&self, url: &str) -> Option<Region> {
        // The usual case needs no parsing.
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

    /// The region that `host` or `host:port` names. A public host or alias matches
    /// without a port, or with port 80 or 443. A configured upstream matches only as
    /// configured.
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
            .or_else(|| self.region_of_alias(host))
            .or_else(|| self.region_of_upstream(authority))
    }

    fn region_of_alias(&self, host: &str) -> Option<Region> {
        let mut aliases = self.aliases.iter();
        let alias = aliases.find(|(name, _)| host.eq_ignore_ascii_case(name));
        alias.map(|&(_, region)| region)
    }

    /// The region with this upstream, unless several regions share it.
    fn region_of_upstream(&self, authority: &str) -> Option<Region> {
        let mut regions = Region::ALL.into_iter().filter(|&region| {
            let upstream = self.upstream(region);
            upstream.authority().eq_ignore_ascii_case(authority)
        });
        regions.next().filter(|_| regions.next().is_none())
    }
}

/// Removes a leading `/na`, `/eu` or `/fe` from a path.
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

fn join_query(path: &str, query: Option<Cow<'_, str>>) -> Result<PathAndQuery, InvalidUri> {
    match query {
        Some(query) => format!("{path}?{query}").parse(),
        None => path.parse(),
    }
}
