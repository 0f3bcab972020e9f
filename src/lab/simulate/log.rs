//! A trace from the log that `serve` writes with `log.format = "json"`.
//!
//! A line is written when its request ends; `total_ms` tells when it began. The log holds
//! no tokens, so it is inferred which requests shared one: requests of one skill and trace
//! id belong to one turn, and a request that was served from a stored response or shared a
//! call had the token of the latest request of the same skill, region and template that
//! caused a call. Every other request gets a token of its own. Bodies and the time-outs
//! of callers are not logged and not replayed.

mod line;
#[cfg(test)]
mod tests;
mod turns;

use std::io::{self, BufRead};
use std::time::Duration;

use humantime::format_duration;

use self::line::{LineParser, TokenEvidence};
use self::turns::TurnInference;
use super::trace::{Trace, TraceRequest};

/// The longest log that can be replayed. Every second of a trace takes memory, and one
/// line with a wrong date may be decades away from the others.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The contents of a log.
#[derive(Debug)]
pub struct LoggedTrace {
    /// Its requests.
    pub trace: Trace,
    /// The number of requests.
    pub requests: u64,
    /// The number of other lines, those of rejected requests included.
    pub skipped: u64,
}

/// Why a log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read.
    #[error("cannot read the log")]
    Read(#[source] io::Error),
    /// It contains no requests. The number is that of its lines.
    #[error(
        "none of its {0} lines logs a request; run serve with log.format = \"json\", \
         log.requests = true and level info to record some"
    )]
    NoRequests(u64),
    /// It is longer than [`LONGEST`].
    #[error(
        "its requests span {}, and at most {} can be replayed: cut the log, or remove lines \
         with a wrong timestamp",
        format_duration(Duration::from_secs(.0.as_secs())),
        format_duration(LONGEST)
    )]
    TooLong(Duration),
}

/// Reads a log. Lines may be in any order.
///
/// # Errors
/// The log cannot be read, contains no request, or is longer than [`LONGEST`].
pub fn read(mut log: impl BufRead) -> Result<LoggedTrace, LogError> {
    let mut parser = LineParser::default();
    let (mut logged, mut skipped) = (Vec::new(), 0);
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line).map_err(LogError::Read)? > 0 {
        match parser.parse(&line) {
            Some(request) => logged.push(request),
            None => skipped += u64::from(!line.trim_ascii().is_empty()),
        }
        line.clear();
    }
    logged.sort_by_key(|request| (request.began, request.evidence));
    let (Some(first), Some(last)) = (logged.first(), logged.last()) else {
        return Err(LogError::NoRequests(skipped));
    };
    let (start, length) = (first.began, last.began - first.began);
    if length > LONGEST {
        return Err(LogError::TooLong(length));
    }
    let mut turns = TurnInference::default();
    let requests = logged.iter().map(|request| TraceRequest {
        at: request.began - start,
        turn: turns.turn_of(request),
        skill: request.skill,
        target: request.target,
        timeout_ms: 0,
        region: request.region,
        no_cache: request.evidence == TokenEvidence::RefusedStored,
    });
    let requests: Vec<_> = requests.collect();
    Ok(LoggedTrace {
        requests: requests.len() as u64,
        skipped,
        trace: Trace::of(parser.skills.values, parser.targets.values, requests),
    })
}
