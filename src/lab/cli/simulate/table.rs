//! The table of `simulate`: figures in, text out.

use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::lab::cli::figures::{count, time};
use crate::lab::simulate::figures::Figures;

/// The figures of one configuration. Serialized, an element of the JSON output.
#[derive(serde::Serialize)]
pub(super) struct Column {
    pub(super) config: String,
    #[serde(flatten)]
    pub(super) figures: Figures,
}

/// The name of a row, and its figure.
type Row = (&'static str, fn(&Figures) -> String);

const ROWS: [Row; 23] = [
    ("requests of skills", |f| count(f.counts.asked)),
    ("  served in time", |f| share(f.counts.served, f)),
    ("  served late", |f| share(f.counts.late, f)),
    ("  429s relayed from Alexa", |f| {
        share(f.counts.relayed_429, f)
    }),
    ("  429s from the gateway", |f| {
        share(f.counts.refused_429, f)
    }),
    ("  other failures", |f| share(f.counts.failed, f)),
    ("goodput: served in time", |f| {
        per_second(f.goodput_per_second)
    }),
    ("hit ratio", |f| percent(f.hit_ratio)),
    ("collapsed share", |f| percent(f.collapsed_share)),
    ("calls to Alexa", |f| count(f.counts.attempts)),
    ("  rate", |f| per_second(f.upstream_per_second)),
    ("  peak, in one second", |f| {
        count(f.upstream_peak_per_second)
    }),
    ("  per request", |f| {
        format!("{:.3}", f.counts.attempts_per_request())
    }),
    ("  429s that Alexa answered", |f| count(f.counts.throttled)),
    ("wait for a quota, p50", |f| millis(f.wait_p50_ms)),
    ("wait for a quota, p99", |f| millis(f.wait_p99_ms)),
    ("latency of 2xx, p99", |f| millis(f.latency_p99_ms)),
    ("longest past deadline", |f| millis(f.latest_ms)),
    ("time to a refusal, p99", |f| millis(f.refusal_p99_ms)),
    ("slowest refusal", |f| millis(f.refusal_max_ms)),
    ("longest queue, one region", |f| count(f.peak_queue)),
    ("skills", |f| count(f.skills.len() as u64)),
    ("fairness (Jain; 1 = equal)", |f| {
        format!("{:.4}", f.fairness)
    }),
];

/// Lays out a column per configuration.
pub(super) fn table(columns: &[Column]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let names = columns.iter().map(|column| column.config.clone());
    table.set_header(std::iter::once(String::new()).chain(names));
    for (name, figure) in ROWS {
        let figures = columns.iter().map(|column| figure(&column.figures));
        table.add_row(std::iter::once(name.to_owned()).chain(figures));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A number of requests and its share of all requests.
fn share(part: u64, figures: &Figures) -> String {
    if part == 0 {
        return "0".to_owned();
    }
    let share = part as f64 / figures.counts.asked as f64;
    format!("{} ({})", count(part), percent(share))
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        // Rounding must not show 0 % or 100 % for anything else.
        _ if percent > 0.0 && percent < 0.01 => "< 0.01 %".to_owned(),
        _ if percent < 100.0 && percent > 99.99 => "> 99.99 %".to_owned(),
        _ if percent > 99.0 && percent < 100.0 => format!("{percent:.2} %"),
        _ if percent < 1.0 && percent > 0.0 => format!("{percent:.2} %"),
        _ => format!("{percent:.1} %"),
    }
}

fn per_second(rate: f64) -> String {
    format!("{rate:.1}/s")
}

fn millis(millis: u64) -> String {
    time(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_shows_no_other_share_as_0_or_100_percent() {
        let percents = [0.0, 0.000_01, 0.004, 0.5, 0.995, 0.999_99, 1.0];
        assert_eq!(
            percents.map(percent),
            [
                "0.0 %",
                "< 0.01 %",
                "0.40 %",
                "50.0 %",
                "99.50 %",
                "> 99.99 %",
                "100.0 %"
            ]
        );
    }
}
