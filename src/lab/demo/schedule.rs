//! Who asks what, and when: one morning spike, drawn from a seed.
//!
//! Pure: the same seed and the same load make the same schedule, so two rounds
//! play the same morning. Requests are in the order of their times, and there
//! are exactly as many as [`Load::requests`] says.

use std::time::Duration;

use fastrand::Rng;

use crate::region::Region;

/// How many services of a skill work on one turn, each with the same token.
pub const SERVICES: usize = 3;

/// How far apart the requests are that services make "at once".
pub const AT_ONCE: Duration = Duration::from_millis(15);

/// When the last service starts: after the first answers have usually come, so
/// that stored answers serve it.
pub const LATER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(250));

/// A skill, and how much it is used.
#[derive(Clone, Copy, Debug)]
pub struct Skill {
    /// Its identifier.
    pub id: &'static str,
    /// Where its users live.
    pub region: Region,
    /// How many turns its users take in the spike.
    pub turns: usize,
}

/// How large a spike is.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// How long turns keep beginning: the rate climbs to the middle of the spike
    /// and falls again, both evenly.
    pub length: Duration,
    /// Whose turns they are.
    pub skills: &'a [Skill],
}

impl Load<'static> {
    /// Seven o'clock. At its height the busiest skill takes 9 turns a second:
    /// 27 different requests, or 81 with the duplicates.
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

impl Load<'_> {
    /// How many turns there are.
    #[must_use]
    pub fn turns(&self) -> usize {
        self.skills.iter().map(|skill| skill.turns).sum()
    }

    /// How many requests there are.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.turns() * SERVICES * Field::ALL.len()
    }
}

const fn skill(id: &'static str, region: Region, turns: usize) -> Skill {
    Skill { id, region, turns }
}

/// What a service wants to know about the speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The full name.
    Name,
    /// The given name.
    GivenName,
    /// The mobile number.
    MobileNumber,
}

impl Field {
    /// Every field, in the order in which a service asks.
    pub const ALL: [Self; 3] = [Self::Name, Self::GivenName, Self::MobileNumber];

    /// The path that answers with it.
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
pub struct Ask {
    /// When, from the start of the round.
    pub at: Duration,
    /// In which turn: an index into [`Schedule::turns`]. A turn has one token.
    pub turn: usize,
    /// For what.
    pub field: Field,
}

/// A spike, request by request.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The skill of each turn.
    pub turns: Vec<Skill>,
    /// All requests, earliest first.
    pub asks: Vec<Ask>,
}

impl Schedule {
    /// Draws the schedule of a load from a seed.
    #[must_use]
    pub fn draw(load: &Load<'_>, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut turns = Vec::with_capacity(load.turns());
        let mut asks = Vec::with_capacity(load.requests());
        for skill in load.skills {
            for n in 0..skill.turns {
                // One turn in each of equal shares: as even as a real crowd is at
                // its best, so what is throttled is not the dice's doing.
                let share = (n as f64 + rng.f64()) / skill.turns as f64;
                let begin = load.length.mul_f64(climb_and_fall(share));
                for service in 0..SERVICES {
                    let begin = begin + start_of(service, &mut rng);
                    asks.extend(Field::ALL.map(|field| Ask {
                        at: begin + AT_ONCE.mul_f64(rng.f64()),
                        turn: turns.len(),
                        field,
                    }));
                }
                turns.push(*skill);
            }
        }
        asks.sort_by_key(|ask| ask.at);
        Self { turns, asks }
    }
}

/// When a service starts, from the beginning of its turn.
fn start_of(service: usize, rng: &mut Rng) -> Duration {
    let (earliest, latest) = LATER;
    match service + 1 {
        SERVICES => earliest + (latest - earliest).mul_f64(rng.f64()),
        _ => Duration::ZERO,
    }
}

/// The moment, from 0 to 1, by which this share of all turns has begun when
/// their rate climbs evenly until 0.5 and falls evenly after it.
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

    #[test]
    fn a_seed_makes_one_schedule_and_another_seed_another() {
        let draw = |seed| Schedule::draw(&Load::MORNING, seed).asks;
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn every_turn_asks_for_every_field_once_a_service() {
        let schedule = Schedule::draw(&Load::MORNING, 1);
        assert_eq!(schedule.asks.len(), Load::MORNING.requests());
        assert_eq!(schedule.turns.len(), Load::MORNING.turns());
        for turn in 0..schedule.turns.len() {
            for field in Field::ALL {
                let same = |ask: &&Ask| (ask.turn, ask.field) == (turn, field);
                let at: Vec<_> = schedule.asks.iter().filter(same).map(|a| a.at).collect();
                assert_eq!(at.len(), SERVICES);
                assert!(at[1] - at[0] <= AT_ONCE, "{at:?}");
                assert!(at[2] - at[1] >= LATER.0 - AT_ONCE, "{at:?}");
            }
        }
    }

    #[test]
    fn it_begins_and_ends_in_time_and_peaks_in_the_middle() {
        let asks = Schedule::draw(&Load::MORNING, 1).asks;
        assert!(asks.is_sorted_by_key(|ask| ask.at));
        let length = Load::MORNING.length;
        assert!(asks.iter().all(|ask| ask.at <= length + LATER.1 + AT_ONCE));
        let quarter = |n: u32| {
            let quarter = length / 4 * n..length / 4 * (n + 1);
            asks.iter().filter(|ask| quarter.contains(&ask.at)).count()
        };
        assert!(quarter(1) > 2 * quarter(0) && quarter(2) > 2 * quarter(3));
    }
}
