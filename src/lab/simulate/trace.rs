//! Who asks what, and when.
//!
//! A [`Trace`] is either drawn from a [`Load`] and a seed, request by request
//! while it is played, so that an hour of it takes no memory; or given, as from a
//! log. Its requests are in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use http::Method;

use crate::lab::demo::schedule::{AT_ONCE, LATER, climb_and_fall};
use crate::region::Region;
use crate::token::SkillId;

/// What services ask about the speaker, in the order in which a drawn turn does.
pub const OPERATIONS: [&str; 7] = [
    "/v2/persons/~current/profile/name",
    "/v2/persons/~current/profile/givenName",
    "/v2/persons/~current/profile/mobileNumber",
    "/v2/accounts/~current/settings/Profile.name",
    "/v2/accounts/~current/settings/Profile.givenName",
    "/v2/accounts/~current/settings/Profile.email",
    "/v2/accounts/~current/settings/Profile.mobileNumber",
];

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// When, from the start of the trace.
    pub at: Duration,
    /// Whose token: requests of one skill and turn carry the same.
    pub turn: u32,
    /// An index into [`Trace::skills`].
    pub skill: u32,
    /// An index into [`Trace::targets`].
    pub target: u32,
    /// How long the caller says it waits, in milliseconds; 0 if it does not say.
    pub timeout_ms: u32,
    /// The region that the skill names.
    pub region: Region,
    /// The caller refuses a stored answer.
    pub no_cache: bool,
}

/// A method and a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The method.
    pub method: Method,
    /// The path, with nothing left to fill in.
    pub path: String,
}

impl Target {
    /// A GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
        }
    }
}

/// Requests, in the order of their times.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The skills that ask; none stands for tokens that name none.
    pub skills: Vec<Option<SkillId>>,
    /// What is asked for.
    pub targets: Vec<Target>,
    /// From the start to the last moment at which a turn may begin. What its services
    /// ask may come a little later.
    pub length: Duration,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Drawn(Load, u64),
    Given(Vec<Ask>),
}

impl Trace {
    /// A trace that is drawn while it is played; the same load and seed give the
    /// same one each time.
    #[must_use]
    pub fn draw(load: &Load, seed: u64) -> Self {
        Self {
            skills: load.skills.iter().map(|s| Some(s.id.clone())).collect(),
            targets: OPERATIONS[..load.operations()]
                .iter()
                .map(|path| Target::get(path))
                .collect(),
            length: load.length,
            source: Source::Drawn(load.clone(), seed),
        }
    }

    /// A trace of these requests, which may come in any order.
    #[must_use]
    pub fn of(skills: Vec<Option<SkillId>>, targets: Vec<Target>, mut asks: Vec<Ask>) -> Self {
        asks.sort_by_key(|ask| ask.at);
        Self {
            skills,
            targets,
            length: asks.last().map_or(Duration::ZERO, |ask| ask.at),
            source: Source::Given(asks),
        }
    }

    /// The requests, earliest first.
    #[must_use]
    pub fn asks(&self) -> Box<dyn Iterator<Item = Ask> + '_> {
        match &self.source {
            Source::Drawn(load, seed) => Box::new(Draw::new(load, *seed)),
            Source::Given(asks) => Box::new(asks.iter().copied()),
        }
    }
}

/// How much a skill is used.
#[derive(Clone, Debug)]
pub struct SkillLoad {
    /// The skill.
    pub id: SkillId,
    /// Where its users live.
    pub region: Region,
    /// Requests per second, duplicates included; see [`Shape`] for when.
    pub rate: f64,
}

impl SkillLoad {
    /// So many skills of equal rates, which add up to `rate` requests per second,
    /// spread over the regions in turn.
    #[must_use]
    pub fn equal(skills: usize, rate: f64) -> Vec<Self> {
        let share = rate / skills as f64;
        let skill = |n| {
            let id = SkillId::parse(&format!("amzn1.ask.skill.simulated-{n}"));
            Self {
                id: id.expect("has the shape of a skill's id"),
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
    /// Always the same.
    Steady,
    /// Seven o'clock: the rate climbs evenly to the middle and falls again. What
    /// the load names is the mean; the peak is twice that.
    Morning,
    /// What the load names, and from this moment on so many times that.
    Step(Duration, f64),
}

/// Traffic to draw. Turns of a skill begin as a Poisson process; in a turn,
/// several services ask the same with the same token.
#[derive(Clone, Debug)]
pub struct Load {
    /// Who asks.
    pub skills: Vec<SkillLoad>,
    /// How long turns keep beginning.
    pub length: Duration,
    /// When how many begin.
    pub shape: Shape,
    /// How many services of a skill ask for the same in one turn; at least 1. Of
    /// several, the last starts after the first answers have usually come.
    pub fan_out: usize,
    /// How many of the [`OPERATIONS`] each of them asks for; at least 1.
    pub operations: usize,
    /// How long callers say that they wait.
    pub timeout: Option<Duration>,
    /// The share of requests that refuse a stored answer.
    pub no_cache: f64,
}

impl Load {
    /// A steady load in which each of 3 services asks for 3 operations.
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

    fn operations(&self) -> usize {
        self.operations.clamp(1, OPERATIONS.len())
    }
}

/// Draws a load: turns begin as their skills' clocks say, requests wait in a heap
/// for their time.
struct Draw<'a> {
    load: &'a Load,
    rng: Rng,
    /// What is to come; the number keeps equal times in the order of their making.
    heap: BinaryHeap<Reverse<(Duration, u64, Next)>>,
    made: u64,
    turns: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// A turn of a skill begins. The number is how many turns of unit rate have
    /// passed for it, as the bits of a float.
    Turn(u32, u64),
    Ask {
        skill: u32,
        turn: u32,
        target: u32,
        no_cache: bool,
    },
}

impl<'a> Draw<'a> {
    fn new(load: &'a Load, seed: u64) -> Self {
        let mut draw = Self {
            load,
            rng: Rng::with_seed(seed),
            heap: BinaryHeap::new(),
            made: 0,
            turns: 0,
        };
        for skill in 0..load.skills.len() {
            draw.next_turn(u32::try_from(skill).unwrap_or(u32::MAX), 0.0);
        }
        draw
    }

    /// Draws when a skill's next turn begins. A Poisson process of unit rate, its
    /// time bent so that the rate is the load's.
    fn next_turn(&mut self, skill: u32, passed: f64) {
        let load = self.load;
        let per_turn = (load.fan_out.max(1) * load.operations()) as f64;
        let rate = load.skills[skill as usize].rate / per_turn;
        let passed = passed - (1.0 - self.rng.f64()).ln();
        if let Some(at) = load.shape.reached(passed / rate, load.length) {
            self.push(at, Next::Turn(skill, passed.to_bits()));
        }
    }

    fn begin(&mut self, at: Duration, skill: u32) {
        let (fan_out, turn) = (self.load.fan_out.max(1), self.turns);
        self.turns = self.turns.wrapping_add(1);
        for service in 1..=fan_out {
            let (earliest, latest) = LATER;
            let start = match service > 1 && service == fan_out {
                true => at + earliest + (latest - earliest).mul_f64(self.rng.f64()),
                false => at,
            };
            for target in 0..self.load.operations() {
                let at = start + AT_ONCE.mul_f64(self.rng.f64());
                let no_cache = self.load.no_cache > 0.0 && self.rng.f64() < self.load.no_cache;
                let target = u32::try_from(target).unwrap_or(0);
                self.push(
                    at,
                    Next::Ask {
                        skill,
                        turn,
                        target,
                        no_cache,
                    },
                );
            }
        }
    }

    fn push(&mut self, at: Duration, next: Next) {
        self.heap.push(Reverse((at, self.made, next)));
        self.made += 1;
    }
}

impl Iterator for Draw<'_> {
    type Item = Ask;

    fn next(&mut self) -> Option<Ask> {
        loop {
            let Reverse((at, _, next)) = self.heap.pop()?;
            match next {
                Next::Turn(skill, passed) => {
                    self.begin(at, skill);
                    self.next_turn(skill, f64::from_bits(passed));
                }
                Next::Ask {
                    skill,
                    turn,
                    target,
                    no_cache,
                } => {
                    let timeout = self.load.timeout.map_or(0, |timeout| timeout.as_millis());
                    return Some(Ask {
                        at,
                        turn,
                        skill,
                        target,
                        timeout_ms: u32::try_from(timeout).unwrap_or(u32::MAX),
                        region: self.load.skills[skill as usize].region,
                        no_cache,
                    });
                }
            }
        }
    }
}

impl Shape {
    /// The moment by which as many turns have begun as had after `seconds` of the
    /// load's rate; none if that is never.
    fn reached(self, seconds: f64, length: Duration) -> Option<Duration> {
        let whole = length.as_secs_f64();
        let at = match self {
            Self::Steady => seconds,
            Self::Morning if seconds < whole => whole * climb_and_fall(seconds / whole),
            Self::Morning => return None,
            Self::Step(from, factor) => {
                let after = seconds - from.as_secs_f64();
                match after > 0.0 {
                    true => from.as_secs_f64() + after / factor,
                    false => seconds,
                }
            }
        };
        (at < whole).then(|| Duration::from_secs_f64(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const LENGTH: Duration = Duration::from_secs(600);

    fn load(shape: Shape) -> Load {
        Load {
            shape,
            ..Load::steady(SkillLoad::equal(5, 90.0), LENGTH)
        }
    }

    #[test]
    fn a_seed_draws_one_trace_and_another_seed_another() {
        let draw = |seed| -> Vec<Ask> {
            Trace::draw(&load(Shape::Steady), seed)
                .asks()
                .take(5000)
                .collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn there_are_as_many_requests_as_the_rate_says_and_in_order() {
        for (shape, first, second) in [
            (Shape::Steady, 27_000.0, 27_000.0),
            (Shape::Morning, 27_000.0, 27_000.0),
            (Shape::Step(LENGTH / 2, 3.0), 27_000.0, 81_000.0),
            (Shape::Step(LENGTH / 2, 0.0), 27_000.0, 0.0),
        ] {
            let asks: Vec<Ask> = Trace::draw(&load(shape), 1).asks().collect();
            assert!(asks.is_sorted_by_key(|ask| ask.at));
            let early = asks.iter().filter(|ask| ask.at < LENGTH / 2).count() as f64;
            let late = asks.len() as f64 - early;
            // Turns are Poisson, so the count of requests strays by 9 times the
            // root of their number; allow for four times that.
            let near =
                |seen: f64, meant: f64| (seen - meant).abs() <= 36.0 * (meant / 9.0).sqrt() + 40.0;
            assert!(
                near(early, first) && near(late, second),
                "{shape:?}: {early}, {late}"
            );
        }
    }

    #[test]
    fn a_morning_peaks_in_its_middle() {
        let asks: Vec<Ask> = Trace::draw(&load(Shape::Morning), 1).asks().collect();
        let quarter = |n: u32| {
            let quarter = LENGTH / 4 * n..LENGTH / 4 * (n + 1);
            asks.iter().filter(|ask| quarter.contains(&ask.at)).count()
        };
        assert!(quarter(1) > 2 * quarter(0) && quarter(2) > 2 * quarter(3));
    }

    #[test]
    fn a_turn_has_one_token_and_asks_for_everything_once_a_service() {
        let mut turns: HashMap<u32, Vec<Ask>> = HashMap::new();
        for ask in Trace::draw(&load(Shape::Steady), 1).asks().take(9000) {
            turns.entry(ask.turn).or_default().push(ask);
        }
        for asks in turns.values().filter(|asks| asks.len() == 9) {
            assert!(asks.iter().all(|ask| ask.skill == asks[0].skill));
            for target in 0..3 {
                assert_eq!(asks.iter().filter(|ask| ask.target == target).count(), 3);
            }
        }
        assert!(turns.values().filter(|asks| asks.len() == 9).count() > 900);
    }
}
