//! One request of one region: the response that Alexa would send, then the faults that
//! change it on its way back. A request that is reset counts against its quota.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, Version};
use hyper::body::Incoming;
use serde_json::json;
use tokio::time::sleep;

use super::body::{BodyDigest, PacedBody};
use super::control;
use super::fault::Fault;
use super::operation::Operation;
use super::person::Person;
use super::response::MockResponse;
use super::state::{MockState, RequestPlan};
use super::stream::ResetSwitch;
use super::token::Claims;
use crate::region::Region;

/// Stands for the skill of a token that names none.
const OPAQUE: &str = "opaque";

/// How long a client waits when no window says so.
const THROTTLED: Duration = Duration::from_secs(1);

/// Makes hyper end the connection, or in HTTP/2 the stream, without a response.
#[derive(Debug, thiserror::Error)]
#[error("no response: a fault, or the client left")]
pub(super) struct NoResponse;

/// A request, parsed for the checks.
struct Call {
    region: Region,
    head: Parts,
    operation: Operation,
    credential: Option<Credential>,
}

struct Credential {
    token: String,
    claims: Option<Claims>,
}

/// Serves one request on a connection of `region`.
pub(super) async fn serve(
    request: Request<Incoming>,
    region: Region,
    state: Arc<MockState>,
    reset: ResetSwitch,
) -> Result<Response<PacedBody>, NoResponse> {
    let (head, body) = request.into_parts();
    if let Some(verb) = head.uri.path().strip_prefix("/-/") {
        return Ok(control::serve(&head.method, verb, body, region, &state).await);
    }
    let operation = Operation::of(&head.method, head.uri.path());
    let credential = Credential::of(&head.headers);
    let call = Call {
        region,
        head,
        operation,
        credential,
    };
    let (_present, plan) = state.arrive(region, operation.template(), call.skill());
    let received = BodyDigest::read(body).await.map_err(|_| NoResponse)?;
    wait(plan.latency / 2).await;
    let response = judge(&call, &received, &state);
    wait(plan.latency / 2).await;
    relay(&call, response, &plan, &state, &reset).await
}

/// Returns the response that Alexa would send, checked in Alexa's order.
fn judge(call: &Call, received: &BodyDigest, state: &MockState) -> MockResponse {
    if call.head.method == Method::GET && received.bytes > 0 {
        return MockResponse::blocked();
    }
    let Some(credential) = &call.credential else {
        return MockResponse::unauthorized("The request carries no bearer token.");
    };
    let now = SystemTime::now();
    if let Some(claims) = &credential.claims {
        if claims.expired(now) {
            return MockResponse::unauthorized("The token has expired.");
        }
        if !claims.is_for(call.region) {
            return MockResponse::unauthorized("The token is for another region.");
        }
    }
    let (admitted, retry_after, shape) = {
        let mut state = state.lock();
        let admitted = state.admit(call.region, credential.skill());
        let behaviour = &state.behaviour;
        (admitted, behaviour.retry_after, behaviour.name_shape)
    };
    let throttled = |wait| MockResponse::throttled(retry_after.header(wait, now));
    if let Err(wait) = admitted {
        return throttled(wait);
    }
    let note = credential.claims.as_ref().and_then(Claims::note);
    let scenario = note.as_ref().map(|note| note.scenario).unwrap_or_default();
    MockResponse::to(scenario, || throttled(THROTTLED)).unwrap_or_else(|| {
        let person = Person::behind(&credential.token, note.as_ref());
        let path = call.head.uri.path_and_query();
        let echo = json!({
            "method": call.head.method.as_str(),
            "path": path.map(|path| path.as_str()),
            "body_bytes": received.bytes,
            "body_blake3": received.hash.to_hex().as_str(),
        });
        call.operation.answer(&person, shape, echo)
    })
}

/// Sends the response, changed by the fault if there is one.
async fn relay(
    call: &Call,
    response: MockResponse,
    plan: &RequestPlan,
    state: &MockState,
    reset: &ResetSwitch,
) -> Result<Response<PacedBody>, NoResponse> {
    let answer = match plan.fault {
        Some(Fault::Reset) => {
            // HTTP/2 resets only the stream: others share the connection.
            if call.head.version < Version::HTTP_2 {
                reset.reset();
            }
            return Err(NoResponse);
        }
        Some(Fault::Stall) => pending().await,
        Some(Fault::Error500) => MockResponse::error(),
        Some(Fault::Unavailable503) => MockResponse::unavailable(),
        Some(Fault::Html200) => MockResponse::captive_portal(),
        Some(Fault::Throttle429) => {
            let form = state.lock().behaviour.retry_after;
            MockResponse::throttled(form.header(THROTTLED, SystemTime::now()))
        }
        Some(Fault::Cut | Fault::SlowBody) | None => response,
    };
    let status = answer.status.as_u16();
    state.answered(call.region, call.skill(), status);
    let request_id = format!("{:032x}", plan.request_id);
    let head = answer.head().header("x-amzn-requestid", request_id);
    let body = match plan.fault {
        Some(Fault::Cut) => PacedBody::cut(answer.body),
        Some(Fault::SlowBody) => PacedBody::slow(answer.body),
        _ => PacedBody::whole(answer.body),
    };
    Ok(head.body(body).expect("every header is plain text"))
}

/// Sleeps; returns at once if `time` is zero, without waiting for a timer tick.
async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

impl Call {
    fn skill(&self) -> Option<&str> {
        self.credential.as_ref().map(Credential::skill)
    }
}

impl Credential {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let token = token.trim();
        let sound = scheme.eq_ignore_ascii_case("bearer")
            && !token.is_empty()
            && !token.contains(char::is_whitespace);
        sound.then(|| Self {
            claims: Claims::read(token),
            token: token.to_owned(),
        })
    }

    /// Returns the skill whose quota the request counts against.
    fn skill(&self) -> &str {
        let claims = self.claims.as_ref();
        claims.map_or(OPAQUE, |claims| &claims.sub)
    }
}
