//! The figures of a report, for the table and for `--json`. Field names are the keys of
//! the JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::report::{Counts, Report, within};

/// The figures of one simulation.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The length of the trace.
    pub seconds: f64,
    /// The counts of the whole trace.
    #[serde(flatten)]
    pub counts: Counts,
    /// See [`Counts::hit_ratio`].
    pub hit_ratio: f64,
    /// See [`Counts::collapsed_share`].
    pub collapsed_share: f64,
    /// Calls to Alexa per second.
    pub upstream_per_second: f64,
    /// The most calls to Alexa in one second.
    pub upstream_peak_per_second: u64,
    /// 2xx responses within the deadline, per second.
    pub goodput_per_second: f64,
    /// See [`Report::wait`].
    pub wait_p50_ms: u64,
    /// See [`Report::wait`].
    pub wait_p99_ms: u64,
    /// See [`Report::latency`].
    pub latency_p99_ms: u64,
    /// See [`Report::refusals`].
    pub refusal_p99_ms: u64,
    /// See [`Report::refusals`].
    pub refusal_max_ms: u64,
    /// See [`Report::latest`].
    pub latest_ms: u64,
    /// See [`Report::peak_queue`].
    pub peak_queue: u64,
    /// See [`Report::fairness`].
    pub fairness: f64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Errors of the gateway by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// In the order of the trace's skills.
    pub skills: Vec<SkillFigures>,
}

/// The figures of one skill.
#[derive(Clone, Debug, Serialize)]
pub struct SkillFigures {
    /// The skill; `None` for tokens that name none.
    pub skill: Option<String>,
    /// The counts of the whole trace.
    #[serde(flatten)]
    pub counts: Counts,
    /// Time in the queue for quotas of requests that got a 2xx.
    pub wait_p99_ms: u64,
    /// Latency of 2xx responses.
    pub latency_p99_ms: u64,
}

impl Figures {
    /// Computes the figures of a report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let (counts, seconds) = (report.total(), report.length.as_secs_f64());
        let attempts = report.seconds.iter().map(|second| second.counts().attempts);
        let skills = report.skills.iter().map(|skill| SkillFigures {
            skill: skill.id.as_ref().map(ToString::to_string),
            counts: skill.counts,
            wait_p99_ms: p99(&skill.wait),
            latency_p99_ms: p99(&skill.latency),
        });
        Self {
            seconds,
            counts,
            hit_ratio: counts.hit_ratio(),
            collapsed_share: counts.collapsed_share(),
            upstream_per_second: counts.attempts as f64 / seconds,
            upstream_peak_per_second: attempts.max().unwrap_or_default(),
            goodput_per_second: counts.served as f64 / seconds,
            wait_p50_ms: millis(report.wait(0.5)),
            wait_p99_ms: millis(report.wait(0.99)),
            latency_p99_ms: millis(report.latency(0.99)),
            refusal_p99_ms: p99(&report.refusals),
            refusal_max_ms: millis(within(&report.refusals, 1.0)),
            latest_ms: millis(report.latest),
            peak_queue: report.peak_queue(),
            fairness: report.fairness(Duration::ZERO..Duration::MAX),
            statuses: report.statuses.clone(),
            errors: report.errors.clone(),
            skills: skills.collect(),
        }
    }
}

fn p99(histogram: &Histogram<u32>) -> u64 {
    millis(within(histogram, 0.99))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
