//! A request that is relayed: any method, streamed both ways, sent once.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Response};

use super::policy::Policy;
use super::routed::RoutedRequest;
use crate::body::{self, Body, BoxError};
use crate::cache::status::CacheStatus;
use crate::error::Error;
use crate::headers::add_via;
use crate::limits::Family;
use crate::record::Record;
use crate::request;
use crate::upstream::{RelayDeadlines, Upstream};

/// Sends a request on and returns its response as it comes.
///
/// # Errors
/// The request was not admitted in time, its body failed, or no response head came.
pub(super) async fn relay<B>(
    upstream: &Upstream,
    policy: &Policy,
    request: RoutedRequest,
    body: B,
    record: &mut Record,
) -> Result<Response<Body>, Error>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    record.family = Some(Family::Passthrough);
    let forward = request.bypass_reason();
    record.cache = Some(CacheStatus::forwarded(forward));
    let mut headers = request.parts.headers.clone();
    add_via(&mut headers, request.parts.version);
    // CloudFront responds to a GET with a body with an HTML 403.
    let body = if matches!(request.parts.method, Method::GET | Method::HEAD) {
        let limit = policy.max_discarded_body_bytes;
        request::discard(body, limit, request.deadline.latest).await?;
        headers.remove(CONTENT_LENGTH);
        body::none()
    } else {
        body::stream(body, policy.upstream.relay.body_idle_timeout)
    };
    let call = request.to_call(request.upstream_uri(&policy.routes)?, headers);
    let deadlines = RelayDeadlines {
        admit_by: request.deadline.latest,
        respond_by: request.deadline.explicit(),
    };
    let relayed = upstream
        .relay(
            &call,
            &policy.upstream.relay,
            body,
            deadlines,
            &mut record.stats,
        )
        .await;
    let response = relayed?;
    record.cache = Some(CacheStatus::Forwarded {
        forward,
        status: Some(response.status()),
        collapsed: false,
        stored: None,
    });
    Ok(response)
}
