//! The modelled Alexa, in place of the network.
//!
//! A call is drawn a latency and a fate when it is sent. It reaches Alexa at a random
//! moment within its latency, is counted against the quotas there, and is answered when
//! the latency is over. A call that the gateway abandons before it arrives counts at
//! that moment, because it may already be on its way. The same seed and the same calls
//! give the same result.

mod behaviour;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

pub use self::behaviour::{Alexa, Change, Outage, OutageKind, Setting};
use self::state::{AlexaState, Draw, Fate};
use super::recorder::Recorder;
use super::token;
use crate::body::Body;
use crate::error::{Kind, whole_seconds};
use crate::region::Region;
use crate::token::SkillId;
use crate::upstream::client::Modelled;

const NAME: &str = r#"{"name":"Jane Doe"}"#;
const REFUSAL: &str = r#"{"message":"simulated"}"#;

/// A running model of Alexa.
pub(super) struct AlexaModel {
    state: Mutex<AlexaState>,
    recorder: Recorder,
}

impl AlexaModel {
    /// Creates a model for these skills. Fixed windows begin at `origin`.
    pub(super) fn new(
        alexa: &Alexa,
        skills: &[Option<SkillId>],
        origin: Instant,
        seed: u64,
        recorder: Recorder,
    ) -> Self {
        Self {
            state: Mutex::new(AlexaState::new(alexa, skills, origin, seed)),
            recorder,
        }
    }

    /// Takes a call and returns its response as a future.
    pub(super) fn call(self: &Arc<Self>, request: &Request<Body>) -> Modelled {
        let credentials = request.headers().get(AUTHORIZATION);
        let Some((region, skill)) = credentials.and_then(token::owner) else {
            return Box::pin(std::future::ready(Err(Kind::Internal)));
        };
        let draw = self.state.lock().draw(region, self.recorder.now());
        self.recorder.sent(region, skill);
        let call = InFlight {
            model: Arc::clone(self),
            region,
            skill,
            arrived: false,
        };
        Box::pin(call.run(draw))
    }
}

/// A call in flight. It is counted once, also when it is dropped before it arrives.
struct InFlight {
    model: Arc<AlexaModel>,
    region: Region,
    skill: u32,
    arrived: bool,
}

impl InFlight {
    async fn run(mut self, draw: Draw) -> Result<Response<Bytes>, Kind> {
        let answered_at = Instant::now() + draw.answered;
        if let Fate::Outage(kind) = draw.fate {
            return self.meet_outage(kind, answered_at).await;
        }
        sleep_until(Instant::now() + draw.arrives).await;
        let verdict = self.arrive();
        if draw.fate == Fate::TimedOut {
            return std::future::pending().await;
        }
        sleep_until(answered_at).await;
        match (verdict, draw.fate) {
            (_, Fate::Reset) => Err(Kind::AnswerLost),
            (Err(wait), _) => Ok(self.too_many_requests(wait)),
            (Ok(()), Fate::Error) => Ok(response(StatusCode::INTERNAL_SERVER_ERROR, REFUSAL)),
            (Ok(()), _) => Ok(response(StatusCode::OK, NAME)),
        }
    }

    /// Fails the call without counting it against a quota.
    async fn meet_outage(
        &mut self,
        kind: OutageKind,
        answered_at: Instant,
    ) -> Result<Response<Bytes>, Kind> {
        self.arrived = true;
        match kind {
            OutageKind::Silent => std::future::pending().await,
            OutageKind::Refused => {
                sleep_until(answered_at).await;
                Err(Kind::Connect)
            }
            OutageKind::Unavailable => {
                sleep_until(answered_at).await;
                Ok(response(StatusCode::SERVICE_UNAVAILABLE, REFUSAL))
            }
        }
    }

    fn too_many_requests(&self, wait: Duration) -> Response<Bytes> {
        let mut response = response(StatusCode::TOO_MANY_REQUESTS, REFUSAL);
        if self.model.state.lock().retry_after() {
            let seconds = whole_seconds(wait).into();
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
        response
    }

    /// Counts the call against the quotas, now.
    fn arrive(&mut self) -> Result<(), Duration> {
        self.arrived = true;
        let AlexaModel { state, recorder } = &*self.model;
        let verdict = state.lock().admit(self.region, self.skill, recorder.now());
        recorder.arrived(self.region, self.skill, verdict.is_ok());
        verdict
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.arrived {
            // Nobody waits for the verdict any more.
            self.arrive().ok();
        }
    }
}

fn response(status: StatusCode, body: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
