//! Traffic in general terms: who sends how much, and how that changes over time.

use std::time::Duration;

use super::request::OPERATIONS;
use crate::lab::demo::schedule::climb_and_fall;
use crate::region::Region;
use crate::token::SkillId;

/// Traffic to draw. Turns of a skill begin as a Poisson process; within a turn,
/// several services send the same requests with the same token.
#[derive(Clone, Debug)]
pub struct Load {
    /// The skills that send requests.
    pub skills: Vec<SkillLoad>,
    /// How long new turns keep beginning.
    pub length: Duration,
    /// How the rate changes meanwhile.
    pub shape: Shape,
    /// Services of a skill that send the same requests in one turn; at least 1. If
    /// there are several, the last starts after the first responses usually arrived.
    pub fan_out: usize,
    /// How many of the [`OPERATIONS`] each service calls; at least 1.
    pub operations: usize,
    /// The time-out that callers state.
    pub timeout: Option<Duration>,
    /// The share of requests that refuse stored responses.
    pub no_cache: f64,
}

impl Load {
    /// A steady load of turns in which 3 services call 3 operations each.
    #[must_use]
    pub fn steady(skills: Vec<SkillLoad>, length: Duration) -> Self {
        Self {
            skills,
            length,
            shape: Shape::Steady,
            fan_out: 3,
            operations: 3,
            timeout: None,
            no_cache: 0.0,
        }
    }

    pub(super) fn operations(&self) -> usize {
        self.operations.clamp(1, OPERATIONS.len())
    }

    pub(super) fn fan_out(&self) -> usize {
        self.fan_out.max(1)
    }

    /// Turns per second of a skill.
    pub(super) fn turn_rate(&self, skill: u32) -> f64 {
        self.skills[skill as usize].rate / (self.fan_out() * self.operations()) as f64
    }
}

/// How much a skill is used.
#[derive(Clone, Debug)]
pub struct SkillLoad {
    /// The skill.
    pub id: SkillId,
    /// The region of its users.
    pub region: Region,
    /// Requests per second, duplicates included. [`Shape`] says how it changes.
    pub rate: f64,
}

impl SkillLoad {
    /// Creates skills of equal rates that add up to `rate` requests per second, spread
    /// over the regions in turn.
    #[must_use]
    pub fn equal(skills: usize, rate: f64) -> Vec<Self> {
        let share = rate / skills as f64;
        let skill = |n| {
            let id = SkillId::parse(&format!("amzn1.ask.skill.simulated-{n}"));
            Self {
                id: id.expect("a well-formed skill id"),
                region: Region::ALL[n % Region::ALL.len()],
                rate: share,
            }
        };
        (0..skills).map(skill).collect()
    }
}

/// How the rate of a load changes over its length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// Constant.
    Steady,
    /// A morning spike: the rate climbs evenly to the middle and falls again. The
    /// load's rate is the mean; the peak is twice that.
    Morning,
    /// The load's rate until this moment, then this many times as much.
    Step(Duration, f64),
}

impl Shape {
    /// Returns the moment by which as many turns have begun as a constant rate would
    /// start in `seconds`; `None` if the load ends first.
    pub(super) fn warp(self, seconds: f64, length: Duration) -> Option<Duration> {
        let whole = length.as_secs_f64();
        let at = match self {
            Self::Steady => seconds,
            Self::Morning if seconds < whole => whole * climb_and_fall(seconds / whole),
            Self::Morning => return None,
            Self::Step(from, factor) => {
                let after = seconds - from.as_secs_f64();
                if after > 0.0 {
                    from.as_secs_f64() + after / factor
                } else {
                    seconds
                }
            }
        };
        (at < whole).then(|| Duration::from_secs_f64(at))
    }
}
