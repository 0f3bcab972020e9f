//! What came of a simulation: counts for each second and region, and for each
//! skill; waits and latencies as histograms. Holds no token and nothing of a
//! person. Two reports of the same seed are equal.
//!
//! A request counts as asked in the second in which it came, everything else in
//! the second in which it happened. Of all requests that were asked, each is
//! served, late, relayed a 429, refused, or failed, and only one of these.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::region::Region;
use crate::token::SkillId;

/// Things that happened, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests of skills.
    pub asked: u64,
    /// Answers 2xx inside the deadline.
    pub served: u64,
    /// Answers 2xx after it.
    pub late: u64,
    /// 429s that are Alexa's own, passed on.
    pub relayed_429: u64,
    /// 429s that the gateway made.
    pub refused_429: u64,
    /// Everything else: answers that are neither 2xx nor 429.
    pub failed: u64,
    /// Requests that a stored answer served.
    pub hits: u64,
    /// Requests that shared another's call.
    pub collapsed: u64,
    /// Calls that the gateway sent to Alexa, each attempt counted.
    pub attempts: u64,
    /// Calls that were within Alexa's quotas.
    pub accepted: u64,
    /// Calls that Alexa answered 429, or would have.
    pub throttled: u64,
}

impl Counts {
    /// The share of requests that a stored answer served.
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits, self.asked)
    }

    /// The share of requests that shared another's call.
    #[must_use]
    pub fn collapsed_share(&self) -> f64 {
        ratio(self.collapsed, self.asked)
    }

    /// Calls sent for each request asked.
    #[must_use]
    pub fn attempts_per_request(&self) -> f64 {
        ratio(self.attempts, self.asked)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.asked += other.asked;
        self.served += other.served;
        self.late += other.late;
        self.relayed_429 += other.relayed_429;
        self.refused_429 += other.refused_429;
        self.failed += other.failed;
        self.hits += other.hits;
        self.collapsed += other.collapsed;
        self.attempts += other.attempts;
        self.accepted += other.accepted;
        self.throttled += other.throttled;
    }
}

/// What happened within one second of the trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// By [`Region::index`].
    pub regions: [Counts; 3],
    /// The most requests that waited for quotas at a time, by [`Region::index`].
    pub queued: [u64; 3],
}

impl Second {
    /// All regions together.
    #[must_use]
    pub fn counts(&self) -> Counts {
        sum(&self.regions)
    }
}

fn sum<'a>(counts: impl IntoIterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::default();
    counts.into_iter().for_each(|one| sum += one);
    sum
}

/// What one skill saw.
#[derive(Clone, Debug, PartialEq)]
pub struct SkillReport {
    /// The skill; none for tokens that name none.
    pub id: Option<SkillId>,
    /// Over the whole trace.
    pub counts: Counts,
    /// How long requests with an answer 2xx had waited for quotas, in milliseconds;
    /// those that a stored answer served, not at all.
    pub wait: Histogram<u32>,
    /// How long its answers 2xx took, in milliseconds.
    pub latency: Histogram<u32>,
    /// Second, asked, served; of seconds in which it asked. Served counts in the
    /// second of the asking, so that a share of it means something.
    activity: Vec<(u32, u32, u32)>,
}

impl SkillReport {
    fn new(id: Option<SkillId>) -> Self {
        Self {
            id,
            counts: Counts::default(),
            wait: histogram(),
            latency: histogram(),
            activity: Vec::new(),
        }
    }

    /// How many requests it asked between two moments, and how many of these were
    /// served inside the deadline. Whole seconds.
    #[must_use]
    pub fn between(&self, range: Range<Duration>) -> (u64, u64) {
        let (from, to) = (range.start.as_secs(), range.end.as_secs());
        let from = self
            .activity
            .partition_point(|(second, ..)| u64::from(*second) < from);
        let within = self.activity[from..]
            .iter()
            .take_while(|(second, ..)| u64::from(*second) < to);
        within.fold((0, 0), |(asked, served), one| {
            (asked + u64::from(one.1), served + u64::from(one.2))
        })
    }

    pub(super) fn active_at(&mut self, second: u32) -> &mut (u32, u32, u32) {
        // What is looked for is at most a deadline ago.
        let known = self.activity.iter().rposition(|one| one.0 <= second);
        let at = match known {
            Some(at) if self.activity[at].0 == second => at,
            known => {
                let at = known.map_or(0, |at| at + 1);
                self.activity.insert(at, (second, 0, 0));
                at
            }
        };
        &mut self.activity[at]
    }
}

/// Milliseconds, to three digits; grows with what it is given.
fn histogram() -> Histogram<u32> {
    Histogram::new(3).expect("three digits are allowed")
}

/// What came of a simulation.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The length of the trace, and a second at least.
    pub length: Duration,
    /// Second by second, as far as anything happened.
    pub seconds: Vec<Second>,
    /// By the trace's skill.
    pub skills: Vec<SkillReport>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// The gateway's own errors, by their label.
    pub errors: BTreeMap<&'static str, u64>,
    /// How long what was refused without being tried took to be so, in
    /// milliseconds.
    pub refusals: Histogram<u32>,
    /// By how much the latest answer, of any kind, came after its deadline.
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

    /// Everything.
    #[must_use]
    pub fn total(&self) -> Counts {
        sum(self.skills.iter().map(|skill| &skill.counts))
    }

    /// What happened between two moments, in all regions. Whole seconds.
    #[must_use]
    pub fn between(&self, range: Range<Duration>) -> Counts {
        sum(self.within(range).flat_map(|second| &second.regions))
    }

    /// The same in one region.
    #[must_use]
    pub fn region(&self, region: Region, range: Range<Duration>) -> Counts {
        sum(self
            .within(range)
            .map(|second| &second.regions[region.index()]))
    }

    /// The most requests that waited for quotas of one region at a time. Looked at
    /// ten times a second.
    #[must_use]
    pub fn peak_queue(&self) -> u64 {
        let queued = self.seconds.iter().flat_map(|second| second.queued);
        queued.max().unwrap_or_default()
    }

    /// Answers 2xx inside the deadline, per second, between two moments.
    #[must_use]
    pub fn goodput(&self, range: Range<Duration>) -> f64 {
        let seconds = range.end.as_secs().saturating_sub(range.start.as_secs());
        self.between(range).served as f64 / (seconds.max(1)) as f64
    }

    /// How evenly skills were served between two moments: Jain's index of the share
    /// of each skill's requests that was served inside the deadline. 1 if all
    /// shares are equal, 1/n if one of n skills got everything.
    #[must_use]
    pub fn fairness(&self, range: Range<Duration>) -> f64 {
        let shares = self.skills.iter().filter_map(|skill| {
            let (asked, served) = skill.between(range.clone());
            (asked > 0).then(|| ratio(served, asked))
        });
        jain(shares)
    }

    /// How long requests with an answer 2xx had waited for quotas.
    #[must_use]
    pub fn wait(&self, quantile: f64) -> Duration {
        self.quantile(quantile, |skill| &skill.wait)
    }

    /// How long answers 2xx took.
    #[must_use]
    pub fn latency(&self, quantile: f64) -> Duration {
        self.quantile(quantile, |skill| &skill.latency)
    }

    fn quantile(&self, quantile: f64, of: fn(&SkillReport) -> &Histogram<u32>) -> Duration {
        let mut all = histogram();
        for skill in &self.skills {
            // One that grows takes in any other.
            all.add(of(skill)).ok();
        }
        within(&all, quantile)
    }

    fn within(&self, range: Range<Duration>) -> impl Iterator<Item = &Second> {
        let index = |at: Duration| usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        let (from, to) = (index(range.start), index(range.end));
        self.seconds.iter().take(to).skip(from)
    }

    pub(super) fn second(&mut self, at: Duration) -> &mut Second {
        let index = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        if index >= self.seconds.len() {
            self.seconds.resize_with(index + 1, Second::default);
        }
        &mut self.seconds[index]
    }

    /// Counts the same for a region, now, and for a skill.
    pub(super) fn count(
        &mut self,
        now: Duration,
        region: Region,
        skill: u32,
        add: impl Fn(&mut Counts),
    ) {
        add(&mut self.second(now).regions[region.index()]);
        add(&mut self.skills[skill as usize].counts);
    }
}

/// The value within which this share of the recorded ones is; zero without any.
#[must_use]
pub fn within(histogram: &Histogram<u32>, quantile: f64) -> Duration {
    Duration::from_millis(histogram.value_at_quantile(quantile))
}

/// Jain's index of fairness: 1 if all values are equal, 1/n if all but one of n
/// are zero; 1 for no values, and for nothing but zeros.
#[must_use]
pub fn jain(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        sum += value;
        squares += value * value;
    }
    match squares > 0.0 {
        true => sum * sum / (count * squares),
        false => 1.0,
    }
}

/// The figures that a report comes to, for people and for other programs.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The length of the trace.
    pub seconds: f64,
    /// Everything that was counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// See [`Counts::hit_ratio`].
    pub hit_ratio: f64,
    /// See [`Counts::collapsed_share`].
    pub collapsed_share: f64,
    /// Calls sent to Alexa per second.
    pub upstream_per_second: f64,
    /// The most calls sent to Alexa in one second.
    pub upstream_peak_per_second: u64,
    /// Answers 2xx inside the deadline, per second.
    pub goodput_per_second: f64,
    /// See [`Report::wait`].
    pub wait_p50_ms: u64,
    /// See [`Report::wait`].
    pub wait_p99_ms: u64,
    /// See [`Report::latency`].
    pub latency_p99_ms: u64,
    /// How long refusals took.
    pub refusal_p99_ms: u64,
    /// How long the slowest refusal took.
    pub refusal_max_ms: u64,
    /// See [`Report::latest`].
    pub latest_ms: u64,
    /// See [`Report::peak_queue`].
    pub peak_queue: u64,
    /// See [`Report::fairness`].
    pub fairness: f64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// The gateway's own errors, by their label.
    pub errors: BTreeMap<&'static str, u64>,
    /// The same for each skill.
    pub skills: Vec<SkillFigures>,
}

/// The figures of one skill.
#[derive(Clone, Debug, Serialize)]
pub struct SkillFigures {
    /// The skill; none for tokens that name none.
    pub skill: Option<String>,
    /// Everything that was counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// How long requests with an answer 2xx had waited for quotas.
    pub wait_p99_ms: u64,
    /// How long its answers 2xx took.
    pub latency_p99_ms: u64,
}

impl Report {
    /// What it comes to.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (counts, seconds) = (self.total(), self.length.as_secs_f64());
        let sent = self.seconds.iter().map(|second| second.counts().attempts);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let p99 = |histogram: &Histogram<u32>| millis(within(histogram, 0.99));
        let skills = self.skills.iter().map(|skill| SkillFigures {
            skill: skill.id.as_ref().map(ToString::to_string),
            counts: skill.counts,
            wait_p99_ms: p99(&skill.wait),
            latency_p99_ms: p99(&skill.latency),
        });
        Figures {
            seconds,
            counts,
            hit_ratio: counts.hit_ratio(),
            collapsed_share: counts.collapsed_share(),
            upstream_per_second: counts.attempts as f64 / seconds,
            upstream_peak_per_second: sent.max().unwrap_or_default(),
            goodput_per_second: counts.served as f64 / seconds,
            wait_p50_ms: millis(self.wait(0.5)),
            wait_p99_ms: millis(self.wait(0.99)),
            latency_p99_ms: millis(self.latency(0.99)),
            refusal_p99_ms: p99(&self.refusals),
            refusal_max_ms: millis(within(&self.refusals, 1.0)),
            latest_ms: millis(self.latest),
            peak_queue: self.peak_queue(),
            fairness: self.fairness(Duration::ZERO..Duration::MAX),
            statuses: self.statuses.clone(),
            errors: self.errors.clone(),
            skills: skills.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jains_index_is_one_for_equals_and_one_nth_for_a_winner() {
        assert_eq!(jain([0.5; 4]), 1.0);
        assert_eq!(jain([1.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!((jain([]), jain([0.0, 0.0])), (1.0, 1.0));
    }

    #[test]
    fn a_skills_activity_is_kept_in_order_whatever_comes_late() {
        let mut skill = SkillReport::new(None);
        for second in [3, 5, 4, 5, 3] {
            skill.active_at(second).1 += 1;
        }
        skill.active_at(4).2 += 1;
        let seconds = Duration::from_secs;
        assert_eq!(skill.between(seconds(0)..seconds(9)), (5, 1));
        assert_eq!(skill.between(seconds(4)..seconds(5)), (1, 1));
        assert_eq!(skill.between(seconds(5)..seconds(9)), (2, 0));
    }
}
