//! The result of a simulation: counts for each second and region and for each skill,
//! histograms of waits and latencies.
//!
//! A request counts as asked in the second in which it was sent; everything else counts
//! in the second in which it happened. Each request ends in exactly one way: served,
//! late, a relayed 429, a 429 of the gateway, or failed. Reports hold no tokens and no
//! personal data. Reports of the same seed are equal.

mod counts;
mod skill;
mod stats;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

pub use self::counts::{Counts, Second};
pub use self::skill::{SkillActivity, SkillReport};
use self::stats::{histogram, ratio};
pub use self::stats::{jain, within};
use crate::region::Region;
use crate::token::SkillId;

/// The result of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The length of the trace, at least one second.
    pub length: Duration,
    /// One entry per second, up to the last in which something happened.
    pub seconds: Vec<Second>,
    /// In the order of the trace's skills.
    pub skills: Vec<SkillReport>,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Errors of the gateway by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Time until a refusal by the gateway, in milliseconds.
    pub refusals: Histogram<u32>,
    /// The largest delay of a response after its deadline.
    pub latest: Duration,
}

impl Report {
    pub(super) fn new(length: Duration, skills: &[Option<SkillId>]) -> Self {
        Self {
            length: length.max(Duration::from_secs(1)),
            seconds: Vec::new(),
            skills: skills.iter().cloned().map(SkillReport::new).collect(),
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            refusals: histogram(),
            latest: Duration::ZERO,
        }
    }

    /// The counts of the whole trace.
    #[must_use]
    pub fn total(&self) -> Counts {
        Counts::sum(self.skills.iter().map(|skill| &skill.counts))
    }

    /// The counts of all regions between two moments, in whole seconds.
    #[must_use]
    pub fn between(&self, range: Range<Duration>) -> Counts {
        Counts::sum(self.span(range).flat_map(|second| &second.regions))
    }

    /// The counts of one region between two moments, in whole seconds.
    #[must_use]
    pub fn region(&self, region: Region, range: Range<Duration>) -> Counts {
        let seconds = self.span(range);
        Counts::sum(seconds.map(|second| &second.regions[region.index()]))
    }

    /// The longest queue for quotas of one region, sampled ten times a second.
    #[must_use]
    pub fn peak_queue(&self) -> u64 {
        let queued = self.seconds.iter().flat_map(|second| second.queued);
        queued.max().unwrap_or_default()
    }

    /// 2xx responses within the deadline, per second, between two moments.
    #[must_use]
    pub fn goodput(&self, range: Range<Duration>) -> f64 {
        let seconds = range.end.as_secs().saturating_sub(range.start.as_secs());
        self.between(range).served as f64 / seconds.max(1) as f64
    }

    /// How evenly skills were served between two moments: Jain's index of the share of
    /// each skill's requests that was served within the deadline.
    #[must_use]
    pub fn fairness(&self, range: Range<Duration>) -> f64 {
        let shares = self.skills.iter().filter_map(|skill| {
            let activity = skill.between(range.clone());
            (activity.asked > 0).then(|| ratio(activity.served, activity.asked))
        });
        jain(shares)
    }

    /// A quantile of the time in the queue of requests that got a 2xx.
    #[must_use]
    pub fn wait(&self, quantile: f64) -> Duration {
        self.quantile(quantile, |skill| &skill.wait)
    }

    /// A quantile of the latency of 2xx responses.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Duration {
        self.quantile(quantile, |skill| &skill.latency)
    }

    fn quantile(&self, quantile: f64, of: fn(&SkillReport) -> &Histogram<u32>) -> Duration {
        let mut all = histogram();
        for skill in &self.skills {
            // Cannot fail: the histogram grows as needed.
            all.add(of(skill)).ok();
        }
        within(&all, quantile)
    }

    fn span(&self, range: Range<Duration>) -> impl Iterator<Item = &Second> {
        let (from, to) = (index(range.start), index(range.end));
        self.seconds.iter().take(to).skip(from)
    }

    pub(super) fn second(&mut self, at: Duration) -> &mut Second {
        let index = index(at);
        if index >= self.seconds.len() {
            self.seconds.resize_with(index + 1, Second::default);
        }
        &mut self.seconds[index]
    }

    /// Adds to the counts of a region at a moment and to those of a skill.
    pub(super) fn count(
        &mut self,
        at: Duration,
        region: Region,
        skill: u32,
        add: impl Fn(&mut Counts),
    ) {
        add(&mut self.second(at).regions[region.index()]);
        add(&mut self.skills[skill as usize].counts);
    }
}

fn index(at: Duration) -> usize {
    usize::try_from(at.as_secs()).unwrap_or(usize::MAX)
}
