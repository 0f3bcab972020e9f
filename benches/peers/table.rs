//! Figures by peer and round: medians, ranges, and ratios within a round.

use std::fmt::Write as _;

/// One figure, measured in every round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The median; the mean of the two middle values if their number is even.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.get(middle) {
            None => f64::NAN,
            Some(above) if sorted.len() % 2 == 1 => *above,
            Some(above) => (sorted[middle - 1] + above) / 2.0,
        }
    }

    pub(crate) fn range(&self) -> (f64, f64) {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (
            least,
            self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        )
    }

    /// The quotient, round by round.
    pub(crate) fn over(&self, that: &Self) -> Self {
        self.with(that, |this, that| this / that)
    }

    /// The difference, round by round.
    pub(crate) fn minus(&self, that: &Self) -> Self {
        self.with(that, |this, that| this - that)
    }

    fn with(&self, that: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        let pairs = self.0.iter().zip(&that.0);
        Self(pairs.map(|(this, that)| combine(*this, *that)).collect())
    }
}

/// The figures of one scenario.
pub(crate) struct Table {
    pub(crate) title: String,
    note: String,
    columns: Vec<&'static str>,
    rows: Vec<(String, Vec<Series>)>,
}

impl Table {
    /// The first column is the one that is drawn.
    pub(crate) fn new(title: &str, note: &str, columns: &[&'static str]) -> Self {
        Self {
            title: title.to_owned(),
            note: note.to_owned(),
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds the figures of one round to a row.
    pub(crate) fn add(&mut self, row: impl ToString, figures: &[f64]) {
        let name = row.to_string();
        let at = self
            .rows
            .iter()
            .position(|(row, _)| *row == name)
            .unwrap_or_else(|| {
                self.rows
                    .push((name, vec![Series::default(); self.columns.len()]));
                self.rows.len() - 1
            });
        for (series, figure) in self.rows[at].1.iter_mut().zip(figures) {
            series.push(*figure);
        }
    }

    /// One column of one row, if it was measured.
    pub(crate) fn series(&self, row: impl ToString, column: usize) -> Option<&Series> {
        let name = row.to_string();
        let (_, series) = self.rows.iter().find(|(row, _)| *row == name)?;
        series.get(column)
    }

    /// One row divided by another, round by round.
    pub(crate) fn ratio(
        &self,
        row: impl ToString,
        to: impl ToString,
        column: usize,
    ) -> Option<Series> {
        Some(self.series(row, column)?.over(self.series(to, column)?))
    }

    /// One row minus another, round by round.
    pub(crate) fn difference(
        &self,
        row: impl ToString,
        less: impl ToString,
        column: usize,
    ) -> Option<Series> {
        Some(self.series(row, column)?.minus(self.series(less, column)?))
    }

    /// The name and the figures of the first column, row by row.
    pub(crate) fn bars(&self) -> (&'static str, Vec<(&str, &Series)>) {
        let bars = self
            .rows
            .iter()
            .map(|(name, series)| (name.as_str(), &series[0]));
        (self.columns[0], bars.collect())
    }

    /// The table in Markdown: medians, with the range where rounds differ.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n| |", self.title, self.note);
        for column in &self.columns {
            write!(text, " {column} |").ok();
        }
        text.push_str("\n|---|");
        text.push_str(&"--:|".repeat(self.columns.len()));
        for (name, row) in &self.rows {
            write!(text, "\n| {name} |").ok();
            for series in row {
                let (least, most) = series.range();
                let (median, least, most) = (number(series.median()), number(least), number(most));
                if least == most {
                    write!(text, " {median} |").ok();
                } else {
                    write!(text, " {median} ({least}–{most}) |").ok();
                }
            }
        }
        text.push('\n');
        text
    }
}

/// Formats a number with three significant digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A promise about one figure of the gateway.
pub(crate) struct Promise {
    what: &'static str,
    measured: Option<Series>,
    bound: Bound,
}

pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Promise {
    pub(crate) fn new(what: &'static str, measured: Option<Series>, bound: Bound) -> Self {
        Self {
            what,
            measured,
            bound,
        }
    }
}

/// Formats all promises in Markdown, and whether each is kept.
pub(crate) fn promises(promises: &[Promise]) -> String {
    let mut text =
        "| promise | bound | median | range | kept |\n|---|--:|--:|--:|---|\n".to_owned();
    for promise in promises {
        let bound = match promise.bound {
            Bound::AtMost(bound) => format!("≤ {}", number(bound)),
            Bound::AtLeast(bound) => format!("≥ {}", number(bound)),
        };
        let Some(measured) = &promise.measured else {
            writeln!(text, "| {} | {bound} | not measured | | |", promise.what).ok();
            continue;
        };
        let (median, (least, most)) = (measured.median(), measured.range());
        let kept = match promise.bound {
            Bound::AtMost(bound) => median <= bound,
            Bound::AtLeast(bound) => median >= bound,
        };
        let kept = if kept { "yes" } else { "**no**" };
        let (median, least, most) = (number(median), number(least), number(most));
        writeln!(
            text,
            "| {} | {bound} | {median} | {least}–{most} | {kept} |",
            promise.what
        )
        .ok();
    }
    text
}
