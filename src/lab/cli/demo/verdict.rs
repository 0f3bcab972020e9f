//! What two runs show: a table, a summary in words, and violations. Figures in, text
//! out.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::lab::cli::figures::{count, time};
use crate::lab::demo::DemoRun;

/// The names of the runs in output.
pub(super) const STRAIGHT: &str = "straight to Alexa";
pub(super) const THROUGH: &str = "through the gateway";

/// Lays out the figures of both runs side by side.
pub(super) fn table(straight: &DemoRun, through: &DemoRun) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", STRAIGHT, THROUGH]);
    let mut row = |name: &str, straight: String, through: String| {
        table.add_row([name.to_owned(), straight, through]);
    };
    let mut counted = |name: &str, figure: fn(&DemoRun) -> u64| {
        row(name, count(figure(straight)), count(figure(through)));
    };
    counted("requests of skills", |run| run.callers.requests);
    counted("  answered 200", |run| run.callers.ok);
    counted("  answered 429", |run| run.callers.throttled);
    counted("  wrong or failed", |run| {
        run.callers.wrong + run.callers.failed
    });
    counted("calls that reached Alexa", |run| run.calls);
    counted("  answered 429", |run| run.throttled_calls);
    let none = || "-".to_owned();
    row("hits: stored response", none(), count(through.hits));
    row("collapsed: shared a call", none(), count(through.collapsed));
    for (name, quantile) in [
        ("latency of 200s, p50", 0.5),
        ("latency of 200s, p99", 0.99),
    ] {
        let within = |run: &DemoRun| time(run.callers.within(quantile));
        row(name, within(straight), within(through));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Says in words what the figures mean, if there are no violations.
pub(super) fn summary(straight: &DemoRun, through: &DemoRun) -> String {
    let throttled = |run: &DemoRun| match run.callers.throttled {
        0 => "every request was answered 200".to_owned(),
        throttled => {
            let (throttled, requests) = (count(throttled), count(run.callers.requests));
            format!("{throttled} of {requests} requests were answered 429")
        }
    };
    let p50 = |run: &DemoRun| time(run.callers.within(0.5));
    format!(
        "Straight to Alexa, {}.\n\
         Through the gateway, {}. {} of them shared\n\
         a call or a stored response, and the remaining {} calls stayed within the quota.\n\
         The price is queueing: half of the responses took at most {} (straight: {}),\n\
         99 of 100 at most {}.",
        throttled(straight),
        throttled(through),
        count(through.hits + through.collapsed),
        count(through.calls),
        p50(through),
        p50(straight),
        time(through.callers.within(0.99)),
    )
}

/// Lists what must never happen, whatever the load: responses that belong to another
/// token, requests that end in neither 200 nor 429, and calls beyond the quota.
pub(super) fn violations(straight: &DemoRun, through: &DemoRun) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, run) in [(STRAIGHT, straight), (THROUGH, through)] {
        let callers = &run.callers;
        if callers.wrong > 0 {
            let wrong = count(callers.wrong);
            violations.push(format!("{name}, {wrong} responses belong to another token"));
        }
        if let Some(example) = &callers.example {
            let failed = count(callers.failed);
            violations.push(format!(
                "{name}, {failed} requests failed, such as: {example}"
            ));
        }
    }
    if through.throttled_calls > 0 {
        let calls = count(through.throttled_calls);
        violations.push(format!("the gateway made {calls} calls beyond its quota"));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::demo::CallerStats;

    fn run(change: impl FnOnce(&mut DemoRun)) -> DemoRun {
        let mut run = DemoRun {
            callers: CallerStats::new(),
            calls: 0,
            throttled_calls: 0,
            hits: 0,
            collapsed: 0,
        };
        change(&mut run);
        run
    }

    #[test]
    fn the_summary_and_the_table_contain_the_counted_figures() {
        let straight = run(|run| {
            run.callers.requests = 1234;
            run.callers.throttled = 617;
        });
        let through = run(|run| {
            (run.hits, run.collapsed, run.calls) = (300, 700, 234);
        });
        let summary = summary(&straight, &through);
        for part in [
            "617 of 1,234 requests were answered 429",
            "every request was answered 200. 1,000 of them shared",
            "the remaining 234 calls",
        ] {
            assert!(summary.contains(part), "{summary}");
        }
        let table = table(&straight, &through).to_string();
        assert!(table.contains("617") && table.contains("1,234"), "{table}");
    }

    #[test]
    fn violations_are_listed() {
        let fine = || run(|run| run.callers.throttled = 5);
        assert!(violations(&fine(), &fine()).is_empty());
        let wrong = run(|run| run.callers.wrong = 1);
        let failed = run(|run| {
            run.callers.failed = 2;
            run.callers.example = Some("answered 502 Bad Gateway".to_owned());
        });
        let beyond = run(|run| run.throttled_calls = 3);
        assert_eq!(violations(&beyond, &fine()).len(), 0);
        assert_eq!(violations(&wrong, &beyond).len(), 2);
        let said = violations(&failed, &fine()).join("");
        assert!(said.ends_with("2 requests failed, such as: answered 502 Bad Gateway"));
    }
}
