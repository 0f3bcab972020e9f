//! A trace: the requests of a simulation, in order of time.
//!
//! A [`Trace`] is either drawn from a [`Load`] and a seed while it is played, so that
//! an hour of traffic takes no memory, or made of given requests, as from a log.

mod draw;
mod load;
mod request;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::load::{Load, Shape, SkillLoad};
pub use self::request::{OPERATIONS, Target, TraceRequest};
use crate::token::SkillId;

/// Requests in order of time.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The skills that send requests; `None` stands for tokens that name no skill.
    pub skills: Vec<Option<SkillId>>,
    /// The methods and paths requested.
    pub targets: Vec<Target>,
    /// From the start until the last turn may begin. Requests of that turn may come a
    /// little later.
    pub length: Duration,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Drawn { load: Load, seed: u64 },
    Given(Vec<TraceRequest>),
}

impl Trace {
    /// Creates a trace that is drawn while it is played. The same load and seed give
    /// the same trace.
    #[must_use]
    pub fn draw(load: &Load, seed: u64) -> Self {
        Self {
            skills: load.skills.iter().map(|s| Some(s.id.clone())).collect(),
            targets: OPERATIONS[..load.operations()]
                .iter()
                .map(|path| Target::get(path))
                .collect(),
            length: load.length,
            source: Source::Drawn {
                load: load.clone(),
                seed,
            },
        }
    }

    /// Creates a trace of the given requests, which may be in any order.
    #[must_use]
    pub fn of(
        skills: Vec<Option<SkillId>>,
        targets: Vec<Target>,
        mut requests: Vec<TraceRequest>,
    ) -> Self {
        requests.sort_by_key(|request| request.at);
        Self {
            skills,
            targets,
            length: requests.last().map_or(Duration::ZERO, |last| last.at),
            source: Source::Given(requests),
        }
    }

    /// Returns the requests, earliest first.
    #[must_use]
    pub fn requests(&self) -> Box<dyn Iterator<Item = TraceRequest> + '_> {
        match &self.source {
            Source::Drawn { load, seed } => Box::new(draw::Draw::new(load, *seed)),
            Source::Given(requests) => Box::new(requests.iter().copied()),
        }
    }
}
