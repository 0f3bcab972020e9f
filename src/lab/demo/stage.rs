//! The stage of the demo: a mock of Alexa, and a gateway in front of it.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::caller::CallerStats;
use super::play::play;
use super::schedule::{Schedule, Skill};
use crate::config::Config;
use crate::config::layers::{Problem, Sources};
use crate::lab::mock::{Mock, MockBehaviour, MockConfig};
use crate::limits::Quota;
use crate::region::Region;
use crate::server::{Server, StartError};

/// The quota of one skill in each region. Amazon publishes no number; this one is low
/// enough for a spike of a few seconds to exceed it.
pub const QUOTA: Quota = Quota {
    requests: NonZeroU32::MIN.saturating_add(19),
    per: Duration::from_secs(1),
    burst: None,
};

/// The mean latency of the mock.
pub const LATENCY: Duration = Duration::from_millis(60);

/// The largest deviation from [`LATENCY`], either way.
pub const JITTER: Duration = Duration::from_millis(20);

/// A running mock and a running gateway.
#[derive(Debug)]
pub struct Stage {
    mock: Mock,
    server: Server,
    /// When the mock has forgotten the calls of the last run.
    quiet_at: Instant,
}

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct DemoRun {
    /// What the skills saw.
    pub callers: CallerStats,
    /// Calls that reached Alexa.
    pub calls: u64,
    /// Calls that Alexa answered 429.
    pub throttled_calls: u64,
    /// Requests that the gateway served from a stored response.
    pub hits: u64,
    /// Requests that shared another request's call.
    pub collapsed: u64,
}

/// Why the stage cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The mock cannot listen.
    #[error("cannot start the mock of Alexa")]
    Mock(#[source] io::Error),
    /// The demo's own configuration is invalid.
    #[error("the demo's configuration is invalid: {}", in_one_line(.0))]
    Config(Vec<Problem>),
    /// The gateway does not start.
    #[error(transparent)]
    Gateway(#[from] StartError),
}

/// Requests that the gateway served without a call of their own.
#[derive(Clone, Copy)]
struct SavedCalls {
    hits: u64,
    collapsed: u64,
}

impl Stage {
    /// Starts both on free ports.
    ///
    /// # Errors
    /// One of them does not start; then neither keeps running.
    pub async fn build(seed: u64) -> Result<Self, StageError> {
        let behaviour = MockBehaviour {
            latency: LATENCY,
            jitter: JITTER,
            skill_quota: Some(QUOTA),
            seed,
            ..MockBehaviour::default()
        };
        let config = MockConfig {
            behaviour,
            ..MockConfig::default()
        };
        let mock = Mock::start(config).await.map_err(StageError::Mock)?;
        let text = gateway_config(|region| url(mock.address(region)));
        let sources = Sources {
            file: Some(("the demo's configuration", &text)),
            environment: &[],
        };
        let config = Config::load(&sources).map_err(StageError::Config)?;
        let server = Server::start(config.server, config.admin, config.gateway).await?;
        Ok(Self {
            mock,
            server,
            quiet_at: Instant::now(),
        })
    }

    /// Plays a schedule straight to Alexa: each skill calls the host of its region.
    pub async fn straight(
        &mut self,
        schedule: &Schedule,
        watch: impl FnMut(&CallerStats),
    ) -> DemoRun {
        let [na, eu, fe] = Region::ALL.map(|region| self.alexa(region));
        let base = |skill: &Skill| match skill.region {
            Region::Na => na.clone(),
            Region::Eu => eu.clone(),
            Region::Fe => fe.clone(),
        };
        self.run(play(schedule, base, watch)).await
    }

    /// Plays a schedule through the gateway: all skills call one address, and their
    /// tokens tell the region.
    pub async fn through_gateway(
        &mut self,
        schedule: &Schedule,
        watch: impl FnMut(&CallerStats),
    ) -> DemoRun {
        let gateway = self.gateway();
        self.run(play(schedule, |_| gateway.clone(), watch)).await
    }

    /// The gateway's URL for skills.
    #[must_use]
    pub fn gateway(&self) -> String {
        self.server
            .addresses()
            .first()
            .copied()
            .map_or_else(String::new, url)
    }

    /// The gateway's URL for operators.
    #[must_use]
    pub fn admin(&self) -> String {
        self.server.admin_address().map_or_else(String::new, url)
    }

    /// The mock's URL for a region.
    #[must_use]
    pub fn alexa(&self, region: Region) -> String {
        url(self.mock.address(region))
    }

    /// Stops both. Requests in flight have one second to finish.
    pub async fn stop(self) {
        self.server.stop().await;
        self.mock.shutdown().await;
    }

    async fn run(&mut self, playing: impl Future<Output = CallerStats>) -> DemoRun {
        sleep_until(self.quiet_at).await;
        self.mock.reset_counters();
        let before = self.saved_calls();
        let callers = playing.await;
        self.quiet_at = Instant::now() + QUOTA.per;
        let (alexa, after) = (self.mock.counters(), self.saved_calls());
        DemoRun {
            callers,
            calls: alexa.requests(),
            throttled_calls: alexa.status(429),
            hits: after.hits - before.hits,
            collapsed: after.collapsed - before.collapsed,
        }
    }

    fn saved_calls(&self) -> SavedCalls {
        let (regions, _) = self.server.gateway().metrics().traffic();
        let hits = regions.values().map(|traffic| traffic.hits);
        let collapsed = regions.values().map(|traffic| traffic.collapsed);
        SavedCalls {
            hits: hits.sum(),
            collapsed: collapsed.sum(),
        }
    }
}

/// The gateway's configuration: where Alexa is, and its quota.
fn gateway_config(alexa: impl Fn(Region) -> String) -> String {
    let mut text = format!(
        "[server]\nlisteners = ['127.0.0.1:0']\ndrain_timeout = '1s'\n\
         [admin]\naddress = '127.0.0.1:0'\n\
         [log]\nrequests = false\n\
         [limits.profile]\nskill = {{ requests = {}, per = '{}' }}\n",
        QUOTA.requests,
        humantime::format_duration(QUOTA.per),
    );
    for region in Region::ALL {
        text += &format!("[regions.{region}]\nupstream = '{}'\n", alexa(region));
    }
    text
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn in_one_line(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::demo::schedule::Spike;

    #[tokio::test]
    async fn the_gateway_saves_alexa_duplicate_calls_and_skills_429s() {
        let skill = |id, region| Skill {
            id,
            region,
            turns: 4,
        };
        let spike = Spike {
            length: Duration::from_millis(100),
            skills: &[
                skill("amzn1.ask.skill.one", Region::Eu),
                skill("amzn1.ask.skill.two", Region::Fe),
            ],
        };
        let schedule = Schedule::draw(&spike, 1);
        let mut stage = Stage::build(1).await.unwrap();
        let mut watched = 0;
        let straight = stage
            .straight(&schedule, |callers| watched = callers.requests)
            .await;
        let through = stage.through_gateway(&schedule, |_| {}).await;
        stage.stop().await;

        // 36 requests per skill, 12 of them distinct; 20 fit into any second.
        let (ok, throttled) = (straight.callers.ok, straight.callers.throttled);
        assert_eq!((watched, straight.callers.requests), (72, 72));
        assert_eq!((ok + throttled, straight.calls), (72, 72));
        assert!(
            throttled > 0 && straight.throttled_calls == throttled,
            "{straight:?}"
        );
        assert_eq!((straight.hits, straight.collapsed), (0, 0));
        assert_eq!(through.callers.ok, 72, "{through:?}");
        assert_eq!((through.calls, through.throttled_calls), (24, 0));
        assert_eq!(through.hits + through.collapsed, 48);
        for run in [straight, through] {
            assert!(run.callers.within(0.5) >= LATENCY - JITTER, "{run:?}");
            assert_eq!((run.callers.wrong, run.callers.failed), (0, 0), "{run:?}");
        }
    }
}
