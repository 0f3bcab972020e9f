//! Plays a trace through a gateway on paused time.
//!
//! Everything runs on the calling thread in a runtime of its own, so a simulation can
//! run in a plain test but not inside another runtime. The load is open loop: each
//! request is sent at its time, and its caller waits for the response. The simulation
//! ends when every request has its response and no flight is left.

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::recorder::{EndedRequest, Recorder};
use super::report::Report;
use super::requests::Requests;
use super::trace::{Trace, TraceRequest};
use super::upstream::{Alexa, AlexaModel};
use crate::config::Config;
use crate::gateway::{self, BuildError, Gateway};
use crate::limits::Family;
use crate::region::Region;
use crate::upstream::client::Client;

/// How often queues are sampled. Once a second, the cache removes expired entries as
/// it does in a server.
const TICK: Duration = Duration::from_millis(100);

/// Far beyond any deadline: a request without a response by then never gets one.
const STUCK_AFTER: Duration = Duration::from_secs(600);

/// Fixed windows of Alexa begin at a random moment up to this long before the trace.
const PHASE_MS: u64 = 10_000;

/// A trace, and the Alexa that answers it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The requests of the skills.
    pub trace: Trace,
    /// The behaviour of Alexa.
    pub alexa: Alexa,
    /// The seed of Alexa's random numbers and the gateway's.
    pub seed: u64,
}

/// Why a simulation failed.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The runtime does not start.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// The gateway cannot be built.
    #[error(transparent)]
    Gateway(#[from] BuildError),
    /// A target of the trace has an invalid path.
    #[error("the trace contains an invalid path: {0:?}")]
    Target(String),
    /// Requests never got a response, which is a defect of the gateway.
    #[error(
        "{0} requests have no response {stuck_after} after the last was sent",
        stuck_after = humantime::format_duration(STUCK_AFTER)
    )]
    Stuck(usize),
}

impl Scenario {
    /// Plays the trace through a gateway that starts with `config` and switches to each
    /// of `reloads` at its time. Calls `watch` with the trace's time every 100 ms of it.
    ///
    /// # Errors
    /// See [`PlayError`].
    ///
    /// # Panics
    /// Panics inside another runtime.
    pub fn play(
        &self,
        config: &Config,
        reloads: &[(Duration, Config)],
        watch: impl FnMut(Duration),
    ) -> Result<Report, PlayError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(PlayError::Runtime)?;
        // The gateway uses the random numbers of this thread.
        fastrand::seed(self.seed);
        runtime.block_on(async {
            let simulation = self.build(config).await?;
            simulation.run(&self.trace, reloads, watch).await
        })
    }

    async fn build(&self, config: &Config) -> Result<Arc<Simulation>, PlayError> {
        let mut rng = Rng::with_seed(self.seed ^ 0x5eed);
        let origin = Instant::now();
        sleep(Duration::from_millis(rng.u64(..PHASE_MS))).await;
        let skills = &self.trace.skills;
        let recorder = Recorder::start(Report::new(self.trace.length, skills));
        let model = AlexaModel::new(&self.alexa, skills, origin, rng.u64(..), recorder.clone());
        let model = Arc::new(model);
        let client = Client::modelled(Arc::new(move |request| model.call(&request)));
        Ok(Arc::new(Simulation {
            gateway: Gateway::with_client(without_log(config), client)?,
            requests: Requests::new(&self.trace).map_err(PlayError::Target)?,
            recorder,
        }))
    }
}

/// Request log lines of a simulation would be mistaken for real ones.
fn without_log(config: &Config) -> gateway::Policy {
    gateway::Policy {
        log_requests: false,
        ..config.gateway.clone()
    }
}

/// A gateway and what its callers share.
struct Simulation {
    gateway: Arc<Gateway>,
    requests: Requests,
    recorder: Recorder,
}

impl Simulation {
    async fn run(
        self: Arc<Self>,
        trace: &Trace,
        reloads: &[(Duration, Config)],
        mut watch: impl FnMut(Duration),
    ) -> Result<Report, PlayError> {
        let mut reloads: Vec<_> = reloads.iter().collect();
        reloads.sort_by_key(|(at, _)| *at);
        let mut reloads = reloads.into_iter().peekable();
        let mut requests = trace.requests().peekable();
        let mut callers = JoinSet::new();
        let (mut tick, mut last_sent) = (Duration::ZERO, Duration::ZERO);
        loop {
            let request = requests.next_if(|request| request.at < tick);
            let next = request.map_or(tick, |request| request.at);
            while let Some((at, config)) = reloads.next_if(|(at, _)| *at <= next) {
                self.wait_until(*at).await;
                self.gateway.reconfigure(without_log(config));
            }
            self.wait_until(next).await;
            while let Some(ended) = callers.try_join_next() {
                propagate_panic(ended);
            }
            if let Some(request) = request {
                callers.spawn(Arc::clone(&self).send(request));
                continue;
            }
            self.tick(tick).await;
            watch(tick);
            tick += TICK;
            if requests.peek().is_some() || reloads.peek().is_some() {
                last_sent = tick;
            } else if callers.is_empty() && self.gateway.flights().0 == 0 {
                return Ok(self.recorder.report());
            } else if tick > last_sent + STUCK_AFTER {
                return Err(PlayError::Stuck(callers.len()));
            }
        }
    }

    /// Waits for a moment of the trace; returns at once if it has passed.
    async fn wait_until(&self, at: Duration) {
        let at = self.recorder.started_at() + at;
        if at > Instant::now() {
            sleep_until(at).await;
        }
    }

    /// Sends one request and records its response.
    async fn send(self: Arc<Self>, request: TraceRequest) {
        self.recorder.asked(request.region, request.skill);
        let limits = self.gateway.policy().deadline;
        let deadline = match request.timeout_ms {
            0 => limits.default,
            millis => Duration::from_millis(millis.into()).min(limits.max),
        };
        let asked_at = self.recorder.now();
        let http_request = self.requests.build(&request);
        let (response, record) = self.gateway.recorded(http_request, None).await;
        self.recorder.ended(&EndedRequest {
            asked_at,
            region: request.region,
            skill: request.skill,
            deadline,
            took: self.recorder.now() - asked_at,
            status: response.status().as_u16(),
            cache: record.cache,
            error: record.error,
            stats: record.stats,
        });
        record.finish(response.status());
    }

    /// Samples the queues; at full seconds, removes expired entries from the cache.
    async fn tick(&self, at: Duration) {
        for region in Region::ALL {
            let limits = self.gateway.limits();
            let queued = Family::ALL.map(|family| limits.snapshot(region, family).queued);
            self.recorder.queued(region, queued.iter().sum());
        }
        if at.subsec_nanos() == 0 {
            self.gateway.cache().sweep().await;
        }
    }
}

/// Lets a panic of the pipeline end the simulation.
fn propagate_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
