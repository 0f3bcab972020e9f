//! A request whose sender and destination are known.

use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use super::deadline::Deadline;
use super::identity::{Identities, Identity};
use crate::cache::key::CacheKey;
use crate::cache::status::Forward;
use crate::error::{Error, Kind};
use crate::region::Region;
use crate::request::Caller;
use crate::route::{Evidence, Route, RouteError, RouteTable, Rule};
use crate::token::UnverifiedClaims;
use crate::upstream::Call;

/// A request whose sender and destination are known.
pub(super) struct RoutedRequest {
    pub(super) parts: Parts,
    pub(super) route: Route,
    pub(super) identity: Identity,
    pub(super) deadline: Deadline,
}

/// A cached template's GET: the rule it is under, and its key.
pub(super) struct Fetch {
    pub(super) rule: Arc<Rule>,
    pub(super) key: CacheKey,
}

impl RoutedRequest {
    pub(super) fn new(parts: Parts, route: Route, identity: Identity, deadline: Deadline) -> Self {
        Self {
            parts,
            route,
            identity,
            deadline,
        }
    }

    /// How the request is fetched, or `None` if it is relayed: only GETs of cached
    /// templates by callers with a token have a key.
    pub(super) fn to_fetch(&self, identities: &Identities) -> Option<Fetch> {
        let rule = self.route.rule.as_ref()?;
        let credentials = self.identity.credentials.as_ref()?;
        (self.parts.method == Method::GET).then(|| Fetch {
            rule: Arc::clone(rule),
            key: CacheKey::of(
                &identities.digest_key,
                self.route.region,
                &self.route.target,
                &self.parts.headers,
                &credentials.digest,
            ),
        })
    }

    /// Why the request is relayed.
    pub(super) fn bypass_reason(&self) -> Forward {
        if self.route.rule.is_some() && self.parts.method != Method::GET {
            Forward::Method
        } else {
            Forward::Bypass
        }
    }

    /// Where its call goes.
    ///
    /// # Errors
    /// The upstream's prefix and the target together are too long for a URI.
    pub(super) fn upstream_uri(&self, routes: &RouteTable) -> Result<Uri, Error> {
        let uri = routes.upstream(self.route.region).join(&self.route.target);
        uri.map_err(|_| Error::new(Kind::BadRequest, "the path is too long"))
    }

    /// The call to make for it.
    pub(super) fn to_call(&self, uri: Uri, mut headers: HeaderMap) -> Call {
        headers.remove(HOST);
        let credentials = self.identity.credentials.as_ref();
        Call {
            region: self.route.region,
            uri,
            skill: self.identity.claims.skill.clone(),
            method: self.parts.method.clone(),
            headers,
            token: credentials.map(|credentials| credentials.token.clone()),
        }
    }
}

/// Decides where a request goes.
///
/// # Errors
/// It names a host that is no Alexa region, or its path is refused.
pub(super) fn route(
    routes: &RouteTable,
    caller: &Caller,
    claims: &UnverifiedClaims,
    parts: &Parts,
    listener: Option<Region>,
) -> Result<Route, Error> {
    let evidence = Evidence {
        api_endpoint: caller.api_endpoint.as_deref(),
        absolute_form: caller.absolute_form.as_deref(),
        host: caller.host.as_ref().and_then(|host| host.to_str().ok()),
        listener,
        audience: claims.audience.as_deref(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        target: parts.uri.path_and_query(),
    };
    routes.route(&evidence).map_err(|error| {
        let kind = match error {
            RouteError::Misdirected(_) => Kind::Misdirected,
            RouteError::BadPath(_) => Kind::BadRequest,
        };
        Error::new(kind, error.to_string())
    })
}
