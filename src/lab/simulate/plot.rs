//! Draws simulations as SVG: a column per configuration, with panels over time for
//! rates, the queue, and 429s. All columns share their scales, so that heights compare.

mod axis;
mod panel;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::PathElement;
use plotters::series::LineSeries;
use plotters::style::{Color as _, ShapeStyle, WHITE};

use self::axis::{Axis, Point};
use self::panel::{GREY, PANELS, Panel};
use super::report::Report;

/// Width and height of a column.
const COLUMN: (u32, u32) = (560, 940);

/// The most letters that fit above a column.
const LONGEST_NAME: usize = 40;

/// The drawing library failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// A report and the name above its column.
#[derive(Clone, Copy, Debug)]
pub struct NamedReport<'a> {
    /// The name.
    pub name: &'a str,
    /// The report.
    pub report: &'a Report,
}

/// Draws reports side by side.
///
/// # Errors
/// The drawing library fails.
pub fn svg(reports: &[NamedReport<'_>]) -> Result<String, PlotError> {
    let mut svg = String::new();
    draw(&mut svg, reports)?;
    Ok(svg)
}

fn draw(svg: &mut String, reports: &[NamedReport<'_>]) -> Result<(), PlotError> {
    let columns = reports.len().max(1);
    let width = u32::try_from(columns).unwrap_or(u32::MAX);
    let size = (COLUMN.0.saturating_mul(width), COLUMN.1);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let longest = reports.iter().map(|one| one.report.seconds.len()).max();
    let axis = Axis::of(longest.unwrap_or_default());
    let panels: Vec<_> = PANELS
        .iter()
        .map(|panel| DrawnPanel::new(panel, &axis, reports))
        .collect();
    let areas = root.split_evenly((1, columns));
    for (n, (area, one)) in areas.iter().zip(reports).enumerate() {
        let area = area.titled(&shorten(one.name), ("sans-serif", 26))?;
        let rows = area.split_evenly((panels.len(), 1));
        for (row, panel) in rows.iter().zip(&panels) {
            panel.draw_column(row, &axis, n)?;
        }
    }
    root.present()?;
    Ok(())
}

/// A panel with its points in every column.
struct DrawnPanel<'a> {
    panel: &'a Panel,
    /// By column, then by line.
    columns: Vec<Vec<Vec<Point>>>,
    /// The end of the value axis, the same in every column.
    top: f64,
}

impl<'a> DrawnPanel<'a> {
    fn new(panel: &'a Panel, axis: &Axis, reports: &[NamedReport<'_>]) -> Self {
        let lines = |one: &NamedReport<'_>| axis.lines(panel, &one.report.seconds);
        let columns: Vec<_> = reports.iter().map(lines).collect();
        let points = columns.iter().flatten().flatten();
        let highest = points.map(|point| point.value).fold(0.0, f64::max);
        Self {
            panel,
            columns,
            // Leaves room for the legend above the lines; at least 1.
            top: 1.0_f64.max(highest * 1.35),
        }
    }

    fn draw_column(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        axis: &Axis,
        column: usize,
    ) -> Result<(), PlotError> {
        let mut chart = ChartBuilder::on(area)
            .caption(self.panel.title, ("sans-serif", 20))
            .margin(8)
            .x_label_area_size(42)
            .y_label_area_size(66)
            .build_cartesian_2d(0.0..axis.end(), 0.0..self.top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_labels(7)
            .y_labels(6)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .x_desc(axis.description())
            .y_desc(self.panel.unit)
            .label_style(("sans-serif", 15))
            .axis_desc_style(("sans-serif", 15))
            .draw()?;
        for (line, points) in self.panel.lines.iter().zip(&self.columns[column]) {
            let style = ShapeStyle::from(&line.colour).stroke_width(line.width);
            let points = points.iter().map(|point| (point.at, point.value));
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(GREY)
            .label_font(("sans-serif", 15))
            .draw()?;
        Ok(())
    }
}

/// Formats a number with as many digits as it needs.
fn number(value: &f64) -> String {
    if value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else if *value < 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}

/// Cuts a name that does not fit above a column. The end of a path tells more than its
/// beginning.
fn shorten(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    match letters.len().checked_sub(LONGEST_NAME) {
        None | Some(0) => name.to_owned(),
        Some(surplus) => format!("...{}", letters[surplus + 3..].iter().collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::simulate::report::Second;

    fn report(seconds: usize) -> Report {
        let mut report = Report::new(Duration::from_secs(seconds as u64), &[]);
        report.seconds = vec![Second::default(); seconds];
        report
    }

    #[test]
    fn every_configuration_has_a_column_with_every_line() {
        let (short, long) = (report(100), report(4000));
        let named = [("one.toml", &short), ("<two> & more.toml", &long)];
        let svg = svg(&named.map(|(name, report)| NamedReport { name, report })).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        let texts = |text: &str| svg.lines().filter(|line| *line == text).count();
        assert_eq!(texts("one.toml"), 1);
        assert_eq!(texts("&lt;two&gt; &amp; more.toml"), 1);
        for panel in &PANELS {
            assert_eq!(texts(panel.title), 2, "{svg}");
            for line in panel.lines {
                assert_eq!(texts(line.name), 2, "{}", line.name);
            }
        }
        // A polyline for each line, and one for its sample in the legend.
        let lines = PANELS.iter().map(|panel| panel.lines.len()).sum::<usize>();
        assert!(svg.matches("<polyline").count() >= 2 * 2 * lines);
    }

    #[test]
    fn a_report_without_seconds_can_be_drawn() {
        let (name, report) = ("nothing", &report(0));
        let one = svg(&[NamedReport { name, report }]).unwrap();
        assert!(one.contains("nothing"));
        assert!(svg(&[]).unwrap().starts_with("<svg"));
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(shorten("short.toml"), "short.toml");
        let long = shorten(&"x".repeat(100).replacen('x', "a", 1));
        assert_eq!((long.len(), &long[..4]), (LONGEST_NAME, "...x"));
    }
}
