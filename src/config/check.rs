//! Checks of single values, and the problems they find.
//!
//! Each check returns the value it was given, also a bad one, so that building goes
//! on and all problems are found. A configuration with problems is never used.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::layers::{Layers, Problem};

/// The longest duration of any key. More is a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Collects problems.
pub(super) struct Check {
    layers: Layers,
    problems: Vec<Problem>,
}

impl Check {
    /// Continues with the problems that reading the layers has found.
    pub(super) fn new(layers: Layers, problems: Vec<Problem>) -> Self {
        Self { layers, problems }
    }

    /// All problems, in the order of the file's lines.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        self.problems
    }

    /// Reports that the value at `path` is wrong.
    pub(super) fn problem(&mut self, path: &str, message: impl Into<String>) {
        let origin = self.layers.origin(path).cloned();
        self.problems.push(Problem {
            origin,
            path: path.to_owned(),
            message: message.into(),
        });
    }

    /// Reports `message` unless `holds`.
    pub(super) fn ensure(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.problem(path, message);
        }
    }

    pub(super) fn at_least<T: PartialOrd + Display>(&mut self, path: &str, value: T, min: T) -> T {
        if value < min {
            self.problem(path, format!("must be at least {min}"));
        }
        value
    }

    pub(super) fn at_most<T: PartialOrd + Display>(&mut self, path: &str, value: T, max: T) -> T {
        if value > max {
            self.problem(path, format!("must be at most {max}"));
        }
        value
    }

    pub(super) fn within(&mut self, path: &str, value: u32, range: RangeInclusive<u32>) -> u32 {
        if !range.contains(&value) {
            let (min, max) = (range.start(), range.end());
            self.problem(path, format!("must be from {min} to {max}"));
        }
        value
    }

    /// A duration that may be zero.
    pub(super) fn duration(&mut self, path: &str, value: Duration) -> Duration {
        self.ensure(value <= LONGEST, path, "must be at most 24h");
        value
    }

    /// A duration that must not be zero.
    pub(super) fn timeout(&mut self, path: &str, value: Duration) -> Duration {
        self.ensure(!value.is_zero(), path, "must be more than zero");
        self.duration(path, value)
    }
}
