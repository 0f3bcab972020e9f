//! Draws the first column of each table as bars, with a line from minimum to maximum.
//! Tables of one row are left out.

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::ranged1d::{IntoSegmentedCoord as _, SegmentValue};
use plotters::prelude::{
    BLACK, ChartBuilder, Color as _, IntoDrawingArea as _, PathElement, RGBColor, Rectangle,
    SVGBackend, Text, WHITE,
};

use crate::table::{Table, number};

/// Draws all tables into one picture.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn draw(tables: &[Table], file: &Path) -> anyhow::Result<()> {
    let tables: Vec<_> = tables
        .iter()
        .filter(|table| table.bars().1.len() > 1)
        .collect();
    let heights: Vec<_> = tables
        .iter()
        .map(|table| 90 + 26 * table.bars().1.len() as u32)
        .collect();
    let size = (900, heights.iter().sum::<u32>().max(1));
    let mut rest = SVGBackend::new(file, size).into_drawing_area();
    rest.fill(&WHITE)
        .map_err(|error| anyhow!("drawing: {error}"))?;
    for (table, height) in tables.into_iter().zip(heights) {
        let (area, below) = rest.split_vertically(height);
        panel(table, &area).map_err(|error| anyhow!("drawing {}: {error}", table.title))?;
        rest = below;
    }
    rest.present().map_err(|error| anyhow!("drawing: {error}"))
}

type Area<'a> = plotters::drawing::DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(table: &Table, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let (unit, mut bars) = table.bars();
    bars.reverse();
    let most = bars
        .iter()
        .map(|(_, series)| series.range().1)
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{} ({unit})", table.title), ("sans-serif", 18))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(180)
        .build_cartesian_2d(0.0..most * 1.12, (0..bars.len() - 1).into_segmented())?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) | SegmentValue::Exact(at) => bars
            .get(*at)
            .map(|(name, _)| (*name).to_owned())
            .unwrap_or_default(),
        SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .y_labels(bars.len())
        .y_label_formatter(&name)
        .x_label_formatter(&|value| number(*value))
        .label_style(("sans-serif", 13))
        .draw()?;
    let middle = SegmentValue::CenterOf;
    for (at, (name, series)) in bars.iter().enumerate() {
        let (median, (least, most)) = (series.median(), series.range());
        let corners = [
            (0.0, SegmentValue::Exact(at)),
            (median, SegmentValue::Exact(at + 1)),
        ];
        let mut bar = Rectangle::new(corners, color(name).filled());
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let range = [(least, middle(at)), (most, middle(at))];
        chart.draw_series([PathElement::new(range, BLACK)])?;
        let label = format!("  {}", number(median));
        chart.draw_series([Text::new(label, (most, middle(at)), ("sans-serif", 13))])?;
    }
    Ok(())
}

/// The gateway has a colour of its own.
fn color(row: &str) -> RGBColor {
    if row.starts_with("gateway") {
        RGBColor(40, 100, 170)
    } else {
        RGBColor(150, 175, 200)
    }
}
