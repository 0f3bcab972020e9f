//! Builds the HTTP requests of a trace.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Empty;

use super::token::Tokens;
use super::trace::{Target, Trace, TraceRequest};
use crate::headers::{API_ENDPOINT, TIMEOUT_MS};
use crate::region::Region;

/// What the requests of one trace are built from.
pub(super) struct Requests {
    tokens: Vec<Tokens>,
    targets: Vec<(Method, Uri)>,
    /// By [`Region::index`].
    endpoints: [HeaderValue; 3],
}

impl Requests {
    /// Prepares the requests of a trace.
    ///
    /// # Errors
    /// The path of a target that is not an absolute path.
    pub(super) fn new(trace: &Trace) -> Result<Self, String> {
        let skills = (0..).zip(&trace.skills);
        let targets = trace.targets.iter().map(parse);
        Ok(Self {
            tokens: skills.map(|(n, id)| Tokens::new(id.as_ref(), n)).collect(),
            targets: targets.collect::<Result<_, _>>()?,
            endpoints: Region::ALL.map(endpoint),
        })
    }

    /// Builds a request of a skill that uses the gateway as its Alexa endpoint.
    pub(super) fn build(&self, of: &TraceRequest) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        let (method, uri) = &self.targets[of.target as usize];
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1:2780"));
        headers.insert(API_ENDPOINT, self.endpoints[of.region.index()].clone());
        let token = self.tokens[of.skill as usize].of(of.region, of.turn);
        headers.insert(AUTHORIZATION, token);
        if of.timeout_ms > 0 {
            headers.insert(TIMEOUT_MS, of.timeout_ms.into());
        }
        if of.no_cache {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        request
    }
}

fn parse(target: &Target) -> Result<(Method, Uri), String> {
    let uri = target.path.parse::<Uri>().ok();
    let uri = uri.filter(|uri| uri.path().starts_with('/'));
    let uri = uri.ok_or_else(|| target.path.clone())?;
    Ok((target.method.clone(), uri))
}

fn endpoint(region: Region) -> HeaderValue {
    HeaderValue::try_from(format!("https://{}", region.host()))
        .expect("the name of a host is a header value")
}
