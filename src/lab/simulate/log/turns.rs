//! Infers which requests carried the same token.

use std::collections::HashMap;

use super::line::{LoggedRequest, TokenEvidence};
use crate::region::Region;

/// Assigns turns to requests in the order in which they began.
#[derive(Default)]
pub(super) struct TurnInference {
    turns: u32,
    of_trace: HashMap<TraceKey, u32>,
    /// The turn of the latest request.
    latest: HashMap<TargetKey, u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct TraceKey {
    skill: u32,
    region: Region,
    trace_id: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct TargetKey {
    skill: u32,
    region: Region,
    target: u32,
}

impl TurnInference {
    /// Returns the turn of a request: that of its trace; else, if it shared a response,
    /// that of the latest request for the same target; else a new one.
    pub(super) fn turn_of(&mut self, request: &LoggedRequest) -> u32 {
        let &LoggedRequest {
            skill,
            region,
            target,
            ..
        } = request;
        let target = TargetKey {
            skill,
            region,
            target,
        };
        let trace = request.trace_id.map(|trace_id| TraceKey {
            skill,
            region,
            trace_id,
        });
        let of_trace = trace.and_then(|trace| self.of_trace.get(&trace));
        let shared = || {
            let latest = self.latest.get(&target);
            latest.filter(|_| request.evidence != TokenEvidence::Called)
        };
        let turn = of_trace.or_else(shared).copied().unwrap_or_else(|| {
            self.turns += 1;
            self.turns - 1
        });
        if let Some(trace) = trace {
            self.of_trace.insert(trace, turn);
        }
        self.latest.insert(target, turn);
        turn
    }
}
