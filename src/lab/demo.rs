//! A morning with and without the gateway: the stage, and what is measured on it.
//!
//! A [`Stage`] has a make-believe Alexa that keeps a quota per skill, and a
//! gateway in front of it that knows the quota, all on loopback in this process.
//! The same [`schedule`] is played straight to Alexa and through the gateway; a
//! [`Round`] is what came of it. Every figure is counted, none is assumed.

pub mod play;
pub mod schedule;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use self::play::{Seen, play};
use self::schedule::{Schedule, Skill};
use crate::config::Config;
use crate::config::layers::{Problem, Sources};
use crate::lab::mock::{Mock, MockBehaviour, MockConfig};
use crate::limits::Quota;
use crate::region::Region;
use crate::server::{Server, StartError};

/// What Alexa lets one skill do in a region. Amazon publishes no number; this
/// one makes a spike of seconds tell.
pub const QUOTA: Quota = Quota {
    requests: NonZeroU32::MIN.saturating_add(19),
    per: Duration::from_secs(1),
    burst: None,
};

/// How long an answer of Alexa takes, and how far it strays either way.
pub const LATENCY: (Duration, Duration) = (Duration::from_millis(60), Duration::from_millis(20));

/// A make-believe Alexa and a gateway in front of it.
#[derive(Debug)]
pub struct Stage {
    mock: Mock,
    server: Server,
    /// When Alexa will have forgotten the calls of the last round.
    quiet_at: Instant,
}

/// What one round came to.
#[derive(Clone, Debug)]
pub struct Round {
    /// What the skills saw.
    pub seen: Seen,
    /// Calls that reached Alexa.
    pub calls: u64,
    /// Those among them that Alexa answered 429.
    pub refused: u64,
    /// Requests that a stored answer of the gateway served.
    pub hits: u64,
    /// Requests that shared another's call.
    pub collapsed: u64,
}

/// Why there is no stage.
#[derive(Debug)]
pub enum StageError {
    /// The make-believe Alexa cannot listen.
    Mock(io::Error),
    /// The gateway refuses its configuration.
    Config(Vec<Problem>),
    /// The gateway does not start.
    Gateway(StartError),
}

impl Stage {
    /// Starts both on free ports.
    ///
    /// # Errors
    /// One of them does not start; then neither runs.
    pub async fn build(seed: u64) -> Result<Self, StageError> {
        let (latency, jitter) = LATENCY;
        let behaviour = MockBehaviour {
            latency,
            jitter,
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
        let server = Server::start(config.server, config.admin, config.gateway)
            .await
            .map_err(StageError::Gateway)?;
        Ok(Self {
            mock,
            server,
            quiet_at: Instant::now(),
        })
    }

    /// Plays a schedule straight to Alexa: each skill calls its region.
    pub async fn straight(&mut self, schedule: &Schedule, watch: impl FnMut(&Seen)) -> Round {
        let [na, eu, fe] = Region::ALL.map(|region| self.alexa(region));
        let base = |skill: &Skill| match skill.region {
            Region::Na => na.clone(),
            Region::Eu => eu.clone(),
            Region::Fe => fe.clone(),
        };
        self.round(play(schedule, base, watch)).await
    }

    /// Plays a schedule through the gateway: all skills call one address, and
    /// their tokens say the region.
    pub async fn through_gateway(
        &mut self,
        schedule: &Schedule,
        watch: impl FnMut(&Seen),
    ) -> Round {
        let gateway = self.gateway();
        self.round(play(schedule, |_| gateway.clone(), watch)).await
    }

    /// Where the gateway listens for skills.
    #[must_use]
    pub fn gateway(&self) -> String {
        self.server
            .addresses()
            .first()
            .copied()
            .map_or_else(String::new, url)
    }

    /// Where the gateway tells how it is.
    #[must_use]
    pub fn admin(&self) -> String {
        self.server.admin_address().map_or_else(String::new, url)
    }

    /// Where Alexa listens for a region.
    #[must_use]
    pub fn alexa(&self, region: Region) -> String {
        url(self.mock.address(region))
    }

    /// Stops both; requests in flight have a second to finish.
    pub async fn stop(self) {
        self.server.stop().await;
        self.mock.shutdown().await;
    }

    async fn round(&mut self, playing: impl Future<Output = Seen>) -> Round {
        sleep_until(self.quiet_at).await;
        self.mock.reset_counters();
        let (hits, collapsed) = self.shared();
        let seen = playing.await;
        self.quiet_at = Instant::now() + QUOTA.per;
        let (alexa, shared) = (self.mock.counters(), self.shared());
        Round {
            seen,
            calls: alexa.requests(),
            refused: alexa.status(429),
            hits: shared.0 - hits,
            collapsed: shared.1 - collapsed,
        }
    }

    /// How many requests the gateway has served from stored answers and from
    /// shared calls.
    fn shared(&self) -> (u64, u64) {
        let (regions, _) = self.server.gateway().metrics().traffic();
        let hits = regions.values().map(|traffic| traffic.hits);
        let collapsed = regions.values().map(|traffic| traffic.collapsed);
        (hits.sum(), collapsed.sum())
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mock(error) => error.fmt(f),
            Self::Config(problems) => {
                f.write_str("the gateway refuses its configuration")?;
                problems.iter().try_for_each(|why| write!(f, "; {why}"))
            }
            Self::Gateway(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StageError {}

/// What the gateway is told: where Alexa is, and what it puts up with.
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

#[cfg(test)]
mod tests {
    use super::schedule::Load;
    use super::*;

    #[tokio::test]
    async fn the_gateway_spares_alexa_the_duplicates_and_the_skills_the_429s() {
        let skill = |id, region| Skill {
            id,
            region,
            turns: 4,
        };
        let load = Load {
            length: Duration::from_millis(100),
            skills: &[
                skill("amzn1.ask.skill.one", Region::Eu),
                skill("amzn1.ask.skill.two", Region::Fe),
            ],
        };
        let schedule = Schedule::draw(&load, 1);
        let mut stage = Stage::build(1).await.unwrap();
        let mut watched = 0;
        let straight = stage
            .straight(&schedule, |seen| watched = seen.requests)
            .await;
        let through = stage.through_gateway(&schedule, |_| {}).await;
        stage.stop().await;

        // 36 requests a skill, 12 of them different; 20 fit into any second.
        let (ok, throttled) = (straight.seen.ok, straight.seen.throttled);
        assert_eq!((watched, straight.seen.requests), (72, 72));
        assert_eq!((ok + throttled, straight.calls), (72, 72));
        assert!(
            throttled > 0 && straight.refused == throttled,
            "{straight:?}"
        );
        assert_eq!((straight.hits, straight.collapsed), (0, 0));
        assert_eq!(through.seen.ok, 72, "{through:?}");
        assert_eq!((through.calls, through.refused), (24, 0));
        assert_eq!(through.hits + through.collapsed, 48);
        for round in [straight, through] {
            assert!(round.seen.within(0.5) >= LATENCY.0 - LATENCY.1, "{round:?}");
            assert_eq!((round.seen.wrong, round.seen.failed), (0, 0), "{round:?}");
        }
    }
}
