//! The schedule of the demo: one morning spike, drawn from a seed.
//!
//! Pure: the same seed and the same spike give the same schedule, so that both runs play
//! the same requests. They are in order of time, exactly [`Spike::requests`] of them.

use std::ops::Range;
use std::time::Duration;

use fastrand::Rng;

use crate::region::Region;

/// The number of services of a skill that work on one turn, with the same token.
pub const SERVICES: usize = 3;

/// The span within which a service sends its requests.
pub const AT_ONCE: Duration = Duration::from_millis(15);

/// When the last service of a turn starts: after the first responses have usually
/// arrived, so that it is served from stored responses.
pub const LATER: Range<Duration> = Duration::from_millis(100)..Duration::from_millis(250);

/// A skill, and how much it is used.
#[derive(Clone, Copy, Debug)]
pub struct Skill {
    /// Its identifier.
    pub id: &'static str,
    /// The region of its users.
    pub region: Region,
    /// The number of turns in the spike.
    pub turns: usize,
}

/// A spike in general terms.
#[derive(Clone, Copy, Debug)]
pub struct Spike<'a> {
    /// How long new turns keep beginning. Their rate climbs evenly to the middle of the
    /// spike and falls again.
    pub length: Duration,
    /// The skills that are used.
    pub skills: &'a [Skill],
}

impl Spike<'static> {
    /// Seven o'clock. At the peak, the busiest skill has 9 turns per second: 27
    /// distinct requests, or 81 with duplicates.
    pub const MORNING: Self = Self {
        length: Duration::from_secs(8),
        skills: &[
            skill(
                "amzn1.ask.skill.0b7c4f0e-5d0c-4a53-9d0e-6f1a2c3b4d5e",
                Region::Na,
                36,
            ),
            skill(
                "amzn1.ask.skill.1c8d5a1f-6e1d-4b64-8e1f-7a2b3d4c5e6f",
                Region::Na,
                30,
            ),
            skill(
                "amzn1.ask.skill.2d9e6b2a-7f2e-4c75-9f2a-8b3c4e5d6f7a",
                Region::Eu,
                34,
            ),
            skill(
                "amzn1.ask.skill.3eaf7c3b-8a3f-4d86-8a3b-9c4d5f6e7a8b",
                Region::Eu,
                26,
            ),
            skill(
                "amzn1.ask.skill.4fba8d4c-9b4a-4e97-9b4c-ad5e6a7f8b9c",
                Region::Fe,
                32,
            ),
        ],
    };
}

impl Spike<'_> {
    /// The number of turns.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.skills.iter().map(|skill| skill.turns).sum()
    }

    /// The number of requests.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.turns() * SERVICES * ProfileField::ALL.len()
    }
}

const fn skill(id: &'static str, region: Region, turns: usize) -> Skill {
    Skill { id, region, turns }
}

/// A value of the speaker's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileField {
    /// The full name.
    Name,
    /// The given name.
    GivenName,
    /// The mobile number.
    MobileNumber,
}

impl ProfileField {
    /// Every field, in the order in which a service requests it.
    pub const ALL: [Self; 3] = [Self::Name, Self::GivenName, Self::MobileNumber];

    /// The path of its resource.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Name => "/v2/persons/~current/profile/name",
            Self::GivenName => "/v2/persons/~current/profile/givenName",
            Self::MobileNumber => "/v2/persons/~current/profile/mobileNumber",
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduledRequest {
    /// When it is sent, from the start of the run.
    pub at: Duration,
    /// An index into [`Schedule::turns`]. A turn has one token.
    pub turn: usize,
    /// The value it requests.
    pub field: ProfileField,
}

/// The requests of a spike.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The skill of each turn.
    pub turns: Vec<Skill>,
    /// All requests, earliest first.
    pub requests: Vec<ScheduledRequest>,
}

impl Schedule {
    /// Draws the schedule of a spike from a seed.
    #[must_use]
    pub fn draw(spike: &Spike<'_>, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut turns = Vec::with_capacity(spike.turns());
        let mut requests = Vec::with_capacity(spike.requests());
        for skill in spike.skills {
            for n in 0..skill.turns {
                // One turn in each of equal shares: no random cluster of turns
                // causes the 429s.
                let share = (n as f64 + rng.f64()) / skill.turns as f64;
                let begin = spike.length.mul_f64(climb_and_fall(share));
                for service in 0..SERVICES {
                    let begin = begin + start_of(service, &mut rng);
                    requests.extend(ProfileField::ALL.map(|field| ScheduledRequest {
                        at: begin + AT_ONCE.mul_f64(rng.f64()),
                        turn: turns.len(),
                        field,
                    }));
                }
                turns.push(*skill);
            }
        }
        requests.sort_by_key(|request| request.at);
        Self { turns, requests }
    }
}

/// When a service starts, from the beginning of its turn.
fn start_of(service: usize, rng: &mut Rng) -> Duration {
    if service + 1 == SERVICES {
        LATER.start + (LATER.end - LATER.start).mul_f64(rng.f64())
    } else {
        Duration::ZERO
    }
}

/// Returns the moment, from 0 to 1, by which this share of all turns has begun if their
/// rate climbs evenly until 0.5 and then falls evenly.
pub(crate) fn climb_and_fall(share: f64) -> f64 {
    if share < 0.5 {
        (share / 2.0).sqrt()
    } else {
        1.0 - ((1.0 - share) / 2.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SkillId;

    #[test]
    fn the_gateway_recognizes_every_skill_of_the_morning() {
        for skill in Spike::MORNING.skills {
            assert!(SkillId::parse(skill.id).is_some(), "{}", skill.id);
        }
    }

    #[test]
    fn the_seed_determines_the_schedule() {
        let draw = |seed| Schedule::draw(&Spike::MORNING, seed).requests;
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn every_service_of_a_turn_requests_every_field_once() {
        let schedule = Schedule::draw(&Spike::MORNING, 1);
        assert_eq!(schedule.requests.len(), Spike::MORNING.requests());
        assert_eq!(schedule.turns.len(), Spike::MORNING.turns());
        for turn in 0..schedule.turns.len() {
            for field in ProfileField::ALL {
                let same =
                    |request: &&ScheduledRequest| (request.turn, request.field) == (turn, field);
                let at: Vec<_> = schedule
                    .requests
                    .iter()
                    .filter(same)
                    .map(|request| request.at)
                    .collect();
                assert_eq!(at.len(), SERVICES);
                assert!(at[1] - at[0] <= AT_ONCE, "{at:?}");
                assert!(at[2] - at[1] >= LATER.start - AT_ONCE, "{at:?}");
            }
        }
    }

    #[test]
    fn requests_stay_within_the_spike_and_peak_in_the_middle() {
        let requests = Schedule::draw(&Spike::MORNING, 1).requests;
        assert!(requests.is_sorted_by_key(|request| request.at));
        let length = Spike::MORNING.length;
        assert!(
            requests
                .iter()
                .all(|request| request.at <= length + LATER.end + AT_ONCE)
        );
        let quarter = |n: u32| {
            let quarter = length / 4 * n..length / 4 * (n + 1);
            requests
                .iter()
                .filter(|request| quarter.contains(&request.at))
                .count()
        };
        assert!(quarter(1) > 2 * quarter(0) && quarter(2) > 2 * quarter(3));
    }
}
