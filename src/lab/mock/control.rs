//! Control of a running mock, on the port of any region. Control calls are not counted,
//! not delayed and meet no faults.
//!
//! | call | meaning |
//! |---|---|
//! | `GET /-/counters` | the counters since the start or the last reset |
//! | `POST /-/reset` | set the counters to zero |
//! | `GET /-/behaviour` | the whole behaviour |
//! | `PUT /-/behaviour` | change the fields that the body names: `{"latency": "60ms", "faults": {"reset": 0.01}}` |
//! | `POST /-/script` | fates of this region's next requests, in order: `["500", "reset", "ok"]` |
//!
//! A change returns 204, an invalid body 400 and an unknown call 404; refusals carry
//! the reason.

use http::{Method, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::PacedBody;
use super::fault::ScriptStep;
use super::response::MockResponse;
use super::state::MockState;
use crate::region::Region;

/// Enough for a script of some ten thousand steps.
const LARGEST_BODY: usize = 64 * 1024;

/// Serves one control call; `verb` is the path after `/-/`.
pub(super) async fn serve(
    method: &Method,
    verb: &str,
    body: Incoming,
    region: Region,
    state: &MockState,
) -> Response<PacedBody> {
    let done = match (method.as_str(), verb) {
        ("GET", "counters") => show(&state.lock().counters),
        ("GET", "behaviour") => show(&state.lock().behaviour),
        ("POST", "reset") => {
            state.lock().counters = Default::default();
            Ok(MockResponse::no_content())
        }
        ("PUT", "behaviour") => read(body).await.and_then(|change| {
            let mut state = state.lock();
            let behaviour = state.behaviour.merged(change).map_err(refusal)?;
            state.behave(behaviour);
            Ok(MockResponse::no_content())
        }),
        ("POST", "script") => read::<Vec<String>>(body).await.and_then(|names| {
            let steps = names.iter().map(|name| name.parse());
            let steps: Vec<ScriptStep> = steps.collect::<Result<_, _>>().map_err(refusal)?;
            state.lock().script(region, steps);
            Ok(MockResponse::no_content())
        }),
        _ => Ok(MockResponse::not_found()),
    };
    let answer = done.unwrap_or_else(|refusal| refusal);
    let body = PacedBody::whole(answer.body.clone());
    answer
        .head()
        .body(body)
        .expect("every header is plain text")
}

fn show(value: &impl Serialize) -> Result<MockResponse, MockResponse> {
    serde_json::to_value(value)
        .map(MockResponse::json)
        .map_err(refusal)
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, MockResponse> {
    let body = Limited::new(body, LARGEST_BODY)
        .collect()
        .await
        .map_err(refusal)?;
    serde_json::from_slice(&body.to_bytes()).map_err(refusal)
}

fn refusal(why: impl ToString) -> MockResponse {
    MockResponse::bad_request("INVALID_CONTROL", &why.to_string())
}
