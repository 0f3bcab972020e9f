//! Records a simulation into a [`Report`] while it runs, on the simulation's clock.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::report::Report;
use crate::cache::status::CacheStatus;
use crate::error::Kind;
use crate::region::Region;
use crate::upstream::CallStats;

/// A request that has its response.
pub(super) struct EndedRequest {
    pub(super) asked_at: Duration,
    pub(super) region: Region,
    pub(super) skill: u32,
    /// The caller's deadline, from `asked_at`.
    pub(super) deadline: Duration,
    pub(super) took: Duration,
    pub(super) status: u16,
    pub(super) cache: Option<CacheStatus>,
    pub(super) error: Option<Kind>,
    pub(super) stats: CallStats,
}

/// A report in progress. Clones record into the same report.
#[derive(Clone)]
pub(super) struct Recorder {
    start: Instant,
    report: Arc<Mutex<Report>>,
}

impl Recorder {
    /// Starts recording into `report`; its time starts now.
    pub(super) fn start(report: Report) -> Self {
        Self {
            start: Instant::now(),
            report: Arc::new(Mutex::new(report)),
        }
    }

    /// The start of the trace.
    pub(super) fn started_at(&self) -> Instant {
        self.start
    }

    /// The time since the start of the trace.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the report so far.
    pub(super) fn report(&self) -> Report {
        self.report.lock().clone()
    }

    /// A skill sends a request.
    pub(super) fn asked(&self, region: Region, skill: u32) {
        let now = self.now();
        let mut report = self.report.lock();
        report.count(now, region, skill, |counts| counts.asked += 1);
        report.skills[skill as usize].second(second(now)).asked += 1;
    }

    /// The gateway sends a call to Alexa.
    pub(super) fn sent(&self, region: Region, skill: u32) {
        let mut report = self.report.lock();
        report.count(self.now(), region, skill, |counts| counts.attempts += 1);
    }

    /// A call reaches Alexa and is counted against its quotas.
    pub(super) fn arrived(&self, region: Region, skill: u32, accepted: bool) {
        let mut report = self.report.lock();
        report.count(self.now(), region, skill, |counts| {
            if accepted {
                counts.accepted += 1;
            } else {
                counts.throttled += 1;
            }
        });
    }

    /// A sample of a region's queue.
    pub(super) fn queued(&self, region: Region, requests: usize) {
        let mut report = self.report.lock();
        let longest = &mut report.second(self.now()).queued[region.index()];
        *longest = (*longest).max(requests as u64);
    }

    /// A request gets its response.
    pub(super) fn ended(&self, end: &EndedRequest) {
        let mut report = self.report.lock();
        let ok = (200..300).contains(&end.status);
        let lateness = end.took.saturating_sub(end.deadline);
        let in_time = ok && lateness.is_zero();
        report.count(self.now(), end.region, end.skill, |counts| {
            counts.hits += u64::from(is_hit(end.cache));
            counts.collapsed += u64::from(is_collapsed(end.cache));
            *match end.status {
                _ if in_time => &mut counts.served,
                _ if ok => &mut counts.late,
                429 if end.error.is_some() => &mut counts.refused_429,
                429 => &mut counts.relayed_429,
                _ => &mut counts.failed,
            } += 1;
        });
        let skill = &mut report.skills[end.skill as usize];
        if in_time {
            skill.second(second(end.asked_at)).served += 1;
        }
        if ok {
            record(&mut skill.latency, end.took);
            // A request that joins a flight did not wait before it was sent.
            record(&mut skill.wait, end.stats.queue_wait.min(end.took));
        }
        if let Some(kind) = end.error {
            *report.errors.entry(kind.label()).or_default() += 1;
            if kind.is_refusal() {
                record(&mut report.refusals, end.took);
            }
        }
        *report.statuses.entry(end.status).or_default() += 1;
        report.latest = report.latest.max(lateness);
    }
}

fn is_hit(cache: Option<CacheStatus>) -> bool {
    matches!(cache, Some(CacheStatus::Hit(_) | CacheStatus::HitStale(_)))
}

fn is_collapsed(cache: Option<CacheStatus>) -> bool {
    matches!(
        cache,
        Some(CacheStatus::Forwarded {
            collapsed: true,
            ..
        })
    )
}

fn second(at: Duration) -> u32 {
    u32::try_from(at.as_secs()).unwrap_or(u32::MAX)
}

fn record(histogram: &mut Histogram<u32>, time: Duration) {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // Cannot fail: the histogram grows as needed.
    histogram.record(millis).ok();
}
