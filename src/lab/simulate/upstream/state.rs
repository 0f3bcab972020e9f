//! The modelled Alexa's state: random numbers, settings in force, quota windows.

use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::behaviour::{Alexa, OutageKind, Setting};
use crate::lab::window::{QuotaCheck, QuotaWindow, admit_all};
use crate::limits::Quota;
use crate::region::Region;
use crate::token::SkillId;

pub(super) struct AlexaState {
    alexa: Alexa,
    rng: Rng,
    /// How many of the changes are in force.
    changed: usize,
    regions: [QuotaWindow; 3],
    skills: Vec<SkillState>,
}

struct SkillState {
    id: Option<SkillId>,
    quota: Option<Quota>,
    /// By [`Region::index`].
    windows: [QuotaWindow; 3],
}

/// What will happen to one call.
pub(super) struct Draw {
    pub(super) fate: Fate,
    /// From sending until the call reaches Alexa.
    pub(super) arrives: Duration,
    /// From sending until its response arrives.
    pub(super) answered: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    TimedOut,
    Reset,
    Error,
    Outage(OutageKind),
}

impl AlexaState {
    /// Creates the state at the start of a trace. Fixed windows begin at `origin`.
    pub(super) fn new(
        alexa: &Alexa,
        skills: &[Option<SkillId>],
        origin: Instant,
        seed: u64,
    ) -> Self {
        let mut alexa = alexa.clone();
        alexa.changes.sort_by_key(|change| change.at);
        let windows = || Region::ALL.map(|_| QuotaWindow::new(alexa.window, origin));
        let skill = |id: &Option<SkillId>| SkillState {
            id: id.clone(),
            quota: alexa.skill_quota,
            windows: windows(),
        };
        Self {
            rng: Rng::with_seed(seed),
            changed: 0,
            regions: windows(),
            skills: skills.iter().map(skill).collect(),
            alexa,
        }
    }

    /// Whether a 429 carries `Retry-After`.
    pub(super) fn retry_after(&self) -> bool {
        self.alexa.retry_after
    }

    /// Draws what will happen to a call that is sent now.
    pub(super) fn draw(&mut self, region: Region, now: Duration) -> Draw {
        self.apply_changes(now);
        // Every call draws the same three numbers, so that a change of one share does
        // not affect the calls that follow.
        let (luck, deviation, way) = (self.rng.f64(), self.rng.f64(), self.rng.f64());
        let alexa = &self.alexa;
        let answered =
            (alexa.latency + alexa.jitter.mul_f64(2.0 * deviation)).saturating_sub(alexa.jitter);
        Draw {
            fate: fate(alexa, region, now, luck),
            arrives: answered.mul_f64(way),
            answered,
        }
    }

    /// Counts a call that arrives now against the quotas.
    ///
    /// # Errors
    /// The call is beyond a quota; the error is how long until there is room.
    pub(super) fn admit(
        &mut self,
        region: Region,
        skill: u32,
        now: Duration,
    ) -> Result<(), Duration> {
        self.apply_changes(now);
        let skill = &mut self.skills[skill as usize];
        let checks = [
            QuotaCheck {
                window: &mut self.regions[region.index()],
                quota: self.alexa.region_quota,
            },
            QuotaCheck {
                window: &mut skill.windows[region.index()],
                quota: skill.quota,
            },
        ];
        admit_all(checks, Instant::now())
    }

    /// Applies the changes that are due.
    fn apply_changes(&mut self, now: Duration) {
        while let Some(change) = self.alexa.changes.get(self.changed) {
            if change.at > now {
                return;
            }
            match &change.to {
                Setting::SkillQuota(quota) => {
                    self.skills.iter_mut().for_each(|one| one.quota = *quota);
                }
                Setting::QuotaOf(id, quota) => {
                    let named = self.skills.iter_mut();
                    named
                        .filter(|one| one.id.as_ref() == Some(id))
                        .for_each(|one| one.quota = *quota);
                }
                Setting::RegionQuota(quota) => self.alexa.region_quota = *quota,
                Setting::Latency(latency, jitter) => {
                    (self.alexa.latency, self.alexa.jitter) = (*latency, *jitter);
                }
            }
            self.changed += 1;
        }
    }
}

fn fate(alexa: &Alexa, region: Region, now: Duration, luck: f64) -> Fate {
    let mut outages = alexa.outages.iter();
    match outages.find(|outage| outage.covers(region, now)) {
        Some(outage) => Fate::Outage(outage.kind),
        None if luck < alexa.timeouts => Fate::TimedOut,
        None if luck < alexa.timeouts + alexa.resets => Fate::Reset,
        None if luck < alexa.timeouts + alexa.resets + alexa.errors => Fate::Error,
        None => Fate::Answered,
    }
}
