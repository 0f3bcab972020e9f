//! Simulations as a picture: a column for each configuration; in it, one below
//! the other and over time, rates, the queue, and 429s. All columns share their
//! scales, so that heights compare.

use std::fmt;

use plotters::backend::SVGBackend;
use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _};
use plotters::element::PathElement;
use plotters::series::LineSeries;
use plotters::style::{Color as _, RGBColor, ShapeStyle, WHITE};

use super::report::{Report, Second};

/// The size of one column.
const COLUMN: (u32, u32) = (560, 940);

/// How many letters fit above one.
const LONGEST_NAME: usize = 40;

/// How many points a line has at most: more than that is no line any more.
const POINTS: usize = 280;

// Colours that are told apart by most eyes (Okabe and Ito).
const GREY: RGBColor = RGBColor(150, 150, 150);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const RED: RGBColor = RGBColor(213, 94, 0);
const PURPLE: RGBColor = RGBColor(170, 60, 130);
const BLACK: RGBColor = RGBColor(40, 40, 40);

/// One line: what it is called, its colour and thickness, and its value in a second.
struct Line {
    name: &'static str,
    style: (RGBColor, u32),
    value: fn(&Second) -> u64,
}

/// One chart of a column.
struct Panel {
    title: &'static str,
    unit: &'static str,
    /// How the seconds that one point stands for become one value.
    fold: fn(&mut dyn Iterator<Item = u64>, f64) -> f64,
    lines: &'static [Line],
}

const fn line(name: &'static str, style: (RGBColor, u32), value: fn(&Second) -> u64) -> Line {
    Line { name, style, value }
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "Rates",
        unit: "per second",
        fold: |values, seconds| values.sum::<u64>() as f64 / seconds,
        lines: &[
            line("asked by skills", (GREY, 4), |s| s.counts().asked),
            line("served in time", (GREEN, 2), |s| s.counts().served),
            line("calls to Alexa", (BLUE, 2), |s| s.counts().attempts),
        ],
    },
    Panel {
        title: "Queue for quotas, all regions",
        unit: "requests, at most",
        fold: |values, _| values.max().unwrap_or_default() as f64,
        lines: &[line("waiting", (BLACK, 2), |s| s.queued.iter().sum())],
    },
    Panel {
        title: "429s",
        unit: "per second",
        fold: |values, seconds| values.sum::<u64>() as f64 / seconds,
        lines: &[
            line("answered by Alexa", (RED, 2), |s| s.counts().throttled),
            line("relayed to skills", (PURPLE, 2), |s| s.counts().relayed_429),
            line("made by the gateway", (BLUE, 2), |s| s.counts().refused_429),
        ],
    },
];

/// The picture cannot be drawn.
#[derive(Debug)]
pub struct PlotError(String);

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlotError {}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// Draws reports by name, side by side, as SVG.
///
/// # Errors
/// The drawing library fails.
pub fn svg(reports: &[(&str, &Report)]) -> Result<String, PlotError> {
    let mut svg = String::new();
    draw(&mut svg, reports)?;
    Ok(svg)
}

fn draw(svg: &mut String, reports: &[(&str, &Report)]) -> Result<(), PlotError> {
    let columns = reports.len().max(1);
    let width = u32::try_from(columns).unwrap_or(u32::MAX);
    let size = (COLUMN.0.saturating_mul(width), COLUMN.1);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let longest = reports.iter().map(|(_, report)| report.seconds.len()).max();
    let axis = Axis::of(longest.unwrap_or_default());
    // By panel, then by column, then by line.
    let drawn = PANELS.each_ref().map(|panel| {
        let column = |(_, report): &(&str, &Report)| axis.lines(panel, &report.seconds);
        reports.iter().map(column).collect::<Vec<_>>()
    });
    for (n, column) in root.split_evenly((1, columns)).iter().enumerate() {
        let Some((name, _)) = reports.get(n) else {
            continue;
        };
        let column = column.titled(&shortened(name), ("sans-serif", 26))?;
        let rows = column.split_evenly((PANELS.len(), 1));
        for ((row, panel), drawn) in rows.iter().zip(&PANELS).zip(&drawn) {
            let points = drawn.iter().flatten().flatten();
            let highest = points.map(|(_, value)| *value).fold(0.0, f64::max);
            chart(row, panel, &axis, &drawn[n], highest)?;
        }
    }
    root.present()?;
    Ok(())
}

/// A line's points: seconds from the start, and values.
type Points = Vec<(f64, f64)>;

/// The time axis.
struct Axis {
    seconds: usize,
    /// How many seconds one point stands for.
    step: usize,
    /// What one unit is called, and how many seconds it has.
    unit: (&'static str, f64),
}

impl Axis {
    fn of(seconds: usize) -> Self {
        let seconds = seconds.max(1);
        Self {
            seconds,
            step: seconds.div_ceil(POINTS),
            unit: match seconds {
                0..600 => ("seconds", 1.0),
                600..36_000 => ("minutes", 60.0),
                _ => ("hours", 3600.0),
            },
        }
    }

    /// The lines of one panel.
    fn lines(&self, panel: &Panel, seconds: &[Second]) -> Vec<Points> {
        let points = |line: &Line| -> Points {
            let chunks = seconds.chunks(self.step).enumerate();
            let points = chunks.map(|(n, chunk)| {
                let middle = (n * self.step) as f64 + chunk.len() as f64 / 2.0;
                let value = (panel.fold)(&mut chunk.iter().map(line.value), chunk.len() as f64);
                (middle / self.unit.1, value)
            });
            points.collect()
        };
        panel.lines.iter().map(points).collect()
    }
}

fn chart<'a>(
    area: &DrawingArea<SVGBackend<'a>, Shift>,
    panel: &Panel,
    axis: &Axis,
    lines: &[Points],
    highest: f64,
) -> Result<(), PlotError> {
    // Room for the legend above the lines; and 1 for a chart of nothing.
    let top = 1.0_f64.max(highest * 1.35);
    let end = axis.seconds as f64 / axis.unit.1;
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 20))
        .margin(8)
        .x_label_area_size(42)
        .y_label_area_size(66)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    let time = match axis.step {
        1 => axis.unit.0.to_owned(),
        step => format!("{}, a point for every {step} s", axis.unit.0),
    };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(7)
        .y_labels(6)
        .x_label_formatter(&number)
        .y_label_formatter(&number)
        .x_desc(time)
        .y_desc(panel.unit)
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 15))
        .draw()?;
    for (line, points) in panel.lines.iter().zip(lines) {
        let (colour, width) = line.style;
        let style = ShapeStyle::from(&colour).stroke_width(width);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
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

/// A number with as many digits as it needs.
fn number(value: &f64) -> String {
    match value {
        value if value.fract().abs() < 1e-9 => format!("{value:.0}"),
        value if *value < 1.0 => format!("{value:.2}"),
        value => format!("{value:.1}"),
    }
}

/// A name that fits above a column; its end tells more than its beginning.
fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    match letters.len().checked_sub(LONGEST_NAME) {
        None | Some(0) => name.to_owned(),
        Some(surplus) => format!("...{}", letters[surplus + 3..].iter().collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn report(seconds: usize) -> Report {
        let mut report = Report::new(Duration::from_secs(seconds as u64), &[]);
        report.seconds = vec![Second::default(); seconds];
        for (n, second) in report.seconds.iter_mut().enumerate() {
            second.regions[0].asked = n as u64;
            second.queued[1] = 5;
        }
        report
    }

    #[test]
    fn every_configuration_has_a_column_with_every_line() {
        let (one, two) = (report(100), report(4000));
        let svg = svg(&[("one.toml", &one), ("<two> & more.toml", &two)]).unwrap();
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
        // A line is a polyline of its colour; so is its sample in the legend.
        let lines = PANELS.iter().map(|panel| panel.lines.len()).sum::<usize>();
        assert!(svg.matches("<polyline").count() >= 2 * 2 * lines);
    }

    #[test]
    fn points_are_means_of_rates_and_peaks_of_queues() {
        let axis = Axis::of(2 * POINTS);
        assert_eq!((axis.step, axis.unit.0), (2, "seconds"));
        let report = report(2 * POINTS);
        let asked = &axis.lines(&PANELS[0], &report.seconds)[0];
        assert_eq!(
            (asked.len(), asked[0], asked[1]),
            (POINTS, (1.0, 0.5), (3.0, 2.5))
        );
        assert_eq!(axis.lines(&PANELS[1], &report.seconds)[0][0], (1.0, 5.0));
    }

    #[test]
    fn a_simulation_of_nothing_is_drawn_too() {
        let nothing = report(0);
        assert!(svg(&[("nothing", &nothing)]).unwrap().contains("nothing"));
        assert!(svg(&[]).unwrap().starts_with("<svg"));
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(shortened("short.toml"), "short.toml");
        let long = shortened(&"x".repeat(100).replacen('x', "a", 1));
        assert_eq!((long.len(), &long[..4]), (LONGEST_NAME, "...x"));
    }
}
