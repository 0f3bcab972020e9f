//! A report in the making: what callers and Alexa write down as it happens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::report::Report;
use crate::cache::status::CacheStatus;
use crate::error::Kind;
use crate::region::Region;
use crate::upstream::CallStats;

/// How a request ended.
pub(super) struct End {
    pub(super) asked_at: Duration,
    pub(super) region: Region,
    pub(super) skill: u32,
    /// How long its caller was to wait at most.
    pub(super) patience: Duration,
    pub(super) took: Duration,
    pub(super) status: u16,
    pub(super) cache: Option<CacheStatus>,
    pub(super) error: Option<Kind>,
    pub(super) stats: CallStats,
}

/// A report in the making, and its clock.
#[derive(Clone)]
pub(super) struct Book {
    start: Instant,
    report: Arc<Mutex<Report>>,
}

impl Book {
    /// Opens a book whose time begins now.
    pub(super) fn open(report: Report) -> Self {
        Self {
            start: Instant::now(),
            report: Arc::new(Mutex::new(report)),
        }
    }

    /// The time since the start of the trace.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// What was written so far.
    pub(super) fn report(&self) -> Report {
        self.lock().clone()
    }

    pub(super) fn asked(&self, region: Region, skill: u32) {
        let now = self.now();
        let mut report = self.lock();
        report.count(now, region, skill, |counts| counts.asked += 1);
        report.skills[skill as usize].active_at(second(now)).1 += 1;
    }

    pub(super) fn sent(&self, region: Region, skill: u32) {
        let now = self.now();
        self.lock()
            .count(now, region, skill, |counts| counts.attempts += 1);
    }

    pub(super) fn arrived(&self, region: Region, skill: u32, accepted: bool) {
        let now = self.now();
        self.lock()
            .count(now, region, skill, |counts| match accepted {
                true => counts.accepted += 1,
                false => counts.throttled += 1,
            });
    }

    pub(super) fn queued(&self, region: Region, requests: usize) {
        let now = self.now();
        let mut report = self.lock();
        let most = &mut report.second(now).queued[region.index()];
        *most = (*most).max(requests as u64);
    }

    pub(super) fn ended(&self, end: &End) {
        let now = self.now();
        let mut report = self.lock();
        let hit = matches!(
            end.cache,
            Some(CacheStatus::Hit(_) | CacheStatus::HitStale(_))
        );
        let collapsed = matches!(
            end.cache,
            Some(CacheStatus::Forwarded {
                collapsed: true,
                ..
            })
        );
        let ok = (200..300).contains(&end.status);
        let lateness = end.took.saturating_sub(end.patience);
        let in_time = ok && lateness.is_zero();
        report.count(now, end.region, end.skill, |counts| {
            counts.hits += u64::from(hit);
            counts.collapsed += u64::from(collapsed);
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
            skill.active_at(second(end.asked_at)).2 += 1;
        }
        if ok {
            write(&mut skill.latency, end.took);
            // Who joined a flight has not waited for what it waited before.
            write(&mut skill.wait, end.stats.queue_wait.min(end.took));
        }
        if let Some(kind) = end.error {
            *report.errors.entry(kind.label()).or_default() += 1;
            if kind.is_refusal() {
                write(&mut report.refusals, end.took);
            }
        }
        *report.statuses.entry(end.status).or_default() += 1;
        report.latest = report.latest.max(lateness);
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn second(at: Duration) -> u32 {
    u32::try_from(at.as_secs()).unwrap_or(u32::MAX)
}

fn write(histogram: &mut Histogram<u32>, time: Duration) {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // One that grows takes any value.
    histogram.record(millis).ok();
}
