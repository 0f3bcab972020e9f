//! What one skill saw.

use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::counts::Counts;
use super::stats::histogram;
use crate::token::SkillId;

/// The counts, waits and latencies of one skill.
#[derive(Clone, Debug, PartialEq)]
pub struct SkillReport {
    /// The skill; `None` for tokens that name none.
    pub id: Option<SkillId>,
    /// Over the whole trace.
    pub counts: Counts,
    /// Time in the queue for quotas of requests that got a 2xx, in milliseconds; zero
    /// for hits.
    pub wait: Histogram<u32>,
    /// Latency of 2xx responses, in milliseconds.
    pub latency: Histogram<u32>,
    /// Seconds with requests, in order.
    activity: Vec<SkillSecond>,
}

/// The requests that a skill sent within one second of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab::simulate) struct SkillSecond {
    second: u32,
    /// Requests sent in this second.
    pub(in crate::lab::simulate) asked: u32,
    /// How many of these were served within the deadline, whenever that was.
    pub(in crate::lab::simulate) served: u32,
}

/// The requests that a skill sent in a span of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkillActivity {
    /// Requests sent.
    pub asked: u64,
    /// How many of these were served within the deadline.
    pub served: u64,
}

impl SkillReport {
    pub(super) fn new(id: Option<SkillId>) -> Self {
        Self {
            id,
            counts: Counts::default(),
            wait: histogram(),
            latency: histogram(),
            activity: Vec::new(),
        }
    }

    /// Returns the requests sent between two moments, in whole seconds.
    #[must_use]
    pub fn between(&self, range: Range<Duration>) -> SkillActivity {
        let (from, to) = (range.start.as_secs(), range.end.as_secs());
        let from = self
            .activity
            .partition_point(|one| u64::from(one.second) < from);
        let mut sum = SkillActivity::default();
        for one in self.activity[from..]
            .iter()
            .take_while(|one| u64::from(one.second) < to)
        {
            sum.asked += u64::from(one.asked);
            sum.served += u64::from(one.served);
        }
        sum
    }

    /// Returns the entry of a second, inserting it if it is missing.
    pub(in crate::lab::simulate) fn second(&mut self, second: u32) -> &mut SkillSecond {
        // Searched from the end: the second is at most one deadline ago.
        let known = self.activity.iter().rposition(|one| one.second <= second);
        let at = match known {
            Some(at) if self.activity[at].second == second => at,
            known => {
                let at = known.map_or(0, |at| at + 1);
                let empty = SkillSecond {
                    second,
                    asked: 0,
                    served: 0,
                };
                self.activity.insert(at, empty);
                at
            }
        };
        &mut self.activity[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_stay_in_order_when_responses_come_late() {
        let mut skill = SkillReport::new(None);
        for second in [3, 5, 4, 5, 3] {
            skill.second(second).asked += 1;
        }
        skill.second(4).served += 1;
        let between = |from, to| {
            let activity = skill.between(Duration::from_secs(from)..Duration::from_secs(to));
            (activity.asked, activity.served)
        };
        assert_eq!(between(0, 9), (5, 1));
        assert_eq!(between(4, 5), (1, 1));
        assert_eq!(between(5, 9), (2, 0));
    }
}
