//! The time axis: its unit, and how many seconds one point stands for.

use super::panel::{Panel, PlotLine};
use crate::lab::simulate::report::Second;

/// The most points of a line; more cannot be told apart.
pub(super) const MAX_POINTS: usize = 280;

/// One point of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Time since the start, in the unit of the axis.
    pub(super) at: f64,
    pub(super) value: f64,
}

/// The time axis of all panels.
pub(super) struct Axis {
    seconds: usize,
    /// Seconds per point.
    step: usize,
    unit: Unit,
}

#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    seconds: f64,
}

impl Axis {
    /// Creates the axis of a trace of this many seconds.
    pub(super) fn of(seconds: usize) -> Self {
        let seconds = seconds.max(1);
        let (name, unit) = match seconds {
            0..600 => ("seconds", 1.0),
            600..36_000 => ("minutes", 60.0),
            _ => ("hours", 3600.0),
        };
        Self {
            seconds,
            step: seconds.div_ceil(MAX_POINTS),
            unit: Unit {
                name,
                seconds: unit,
            },
        }
    }

    /// The end of the axis in its unit.
    pub(super) fn end(&self) -> f64 {
        self.seconds as f64 / self.unit.seconds
    }

    /// The description below the axis.
    pub(super) fn description(&self) -> String {
        if self.step == 1 {
            self.unit.name.to_owned()
        } else {
            format!("{}, one point per {} s", self.unit.name, self.step)
        }
    }

    /// Computes the points of each line of a panel.
    pub(super) fn lines(&self, panel: &Panel, seconds: &[Second]) -> Vec<Vec<Point>> {
        let points = |line: &PlotLine| {
            let chunks = seconds.chunks(self.step).enumerate();
            let points = chunks.map(|(n, chunk)| {
                let middle = (n * self.step) as f64 + chunk.len() as f64 / 2.0;
                Point {
                    at: middle / self.unit.seconds,
                    value: panel.fold.apply(chunk.iter().map(line.value)),
                }
            });
            points.collect()
        };
        panel.lines.iter().map(points).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::simulate::plot::panel::PANELS;

    #[test]
    fn points_are_means_of_rates_and_maxima_of_queues() {
        let axis = Axis::of(2 * MAX_POINTS);
        assert_eq!((axis.step, axis.unit.name), (2, "seconds"));
        let mut seconds = vec![Second::default(); 2 * MAX_POINTS];
        for (n, second) in seconds.iter_mut().enumerate() {
            second.regions[0].asked = n as u64;
            second.queued[1] = 5;
        }
        let point = |at, value| Point { at, value };
        let asked = &axis.lines(&PANELS[0], &seconds)[0];
        assert_eq!(asked.len(), MAX_POINTS);
        assert_eq!(asked[..2], [point(1.0, 0.5), point(3.0, 2.5)]);
        let queued = &axis.lines(&PANELS[1], &seconds)[0];
        assert_eq!(queued[0], point(1.0, 5.0));
    }
}
