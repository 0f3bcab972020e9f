//! What two rounds say: the table, a sentence in plain words, and what must not
//! be. Pure: figures in, text out, and no figure that was not counted.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::Round;
use crate::lab::cli::figures::{count, time};

/// Lays the figures of both rounds side by side.
pub(super) fn table(straight: &Round, through: &Round) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "straight to Alexa", "through the gateway"]);
    let mut row = |name: &str, straight: String, through: String| {
        table.add_row([name.to_owned(), straight, through]);
    };
    let mut counted = |name: &str, figure: fn(&Round) -> u64| {
        row(name, count(figure(straight)), count(figure(through)));
    };
    counted("requests of the skills", |round| round.seen.requests);
    counted("  answered 200", |round| round.seen.ok);
    counted("  429s seen by skills", |round| round.seen.throttled);
    counted("  wrong or failed", |r| r.seen.wrong + r.seen.failed);
    counted("calls that reached Alexa", |round| round.calls);
    counted("  429s that Alexa answered", |round| round.refused);
    row(
        "hits: from a stored answer",
        "-".into(),
        count(through.hits),
    );
    row(
        "collapsed: shared a call",
        "-".into(),
        count(through.collapsed),
    );
    for (name, quantile) in [
        ("p50 of the answers 200", 0.5),
        ("p99 of the answers 200", 0.99),
    ] {
        let within = |round: &Round| time(round.seen.within(quantile));
        row(name, within(straight), within(through));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Says in plain words what the figures come to, if nothing is wrong with them.
pub(super) fn summary(straight: &Round, through: &Round) -> String {
    let refused = |round: &Round| match round.seen.throttled {
        0 => "every request got its answer".to_owned(),
        throttled => {
            let (throttled, requests) = (count(throttled), count(round.seen.requests));
            format!("{throttled} of {requests} requests came back as 429")
        }
    };
    let [half, straight_half] = [through, straight].map(|round| time(round.seen.within(0.5)));
    format!(
        "Straight to Alexa, {}.\n\
         Through the gateway, {}; {} shared a call or a\n\
         stored answer, and the {} calls that were left kept to the quota. The price is\n\
         waiting: half of the answers came within {half} (straight: {straight_half}), 99 of 100\n\
         within {}.",
        refused(straight),
        refused(through),
        count(through.hits + through.collapsed),
        count(through.calls),
        time(through.seen.within(0.99)),
    )
}

/// Names everything that must not happen, whatever the load: answers that belong
/// to another token, requests that end in neither a 200 nor a 429, and calls of
/// the gateway beyond the quota.
pub(super) fn problems(straight: &Round, through: &Round) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, round) in [
        ("straight to Alexa", straight),
        ("through the gateway", through),
    ] {
        let seen = &round.seen;
        if seen.wrong > 0 {
            let wrong = count(seen.wrong);
            problems.push(format!(
                "{name}, {wrong} answers did not belong to their token"
            ));
        }
        if let Some(example) = &seen.example {
            let failed = count(seen.failed);
            problems.push(format!(
                "{name}, {failed} requests failed, as in: {example}"
            ));
        }
    }
    if through.refused > 0 {
        let refused = count(through.refused);
        problems.push(format!(
            "the gateway made {refused} calls beyond the quota that it was told to keep"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::demo::play::Seen;

    fn round(change: impl FnOnce(&mut Round)) -> Round {
        let mut round = Round {
            seen: Seen::nothing(),
            calls: 0,
            refused: 0,
            hits: 0,
            collapsed: 0,
        };
        change(&mut round);
        round
    }

    #[test]
    fn figures_are_told_as_they_were_counted() {
        let straight = round(|round| {
            round.seen.requests = 1234;
            round.seen.throttled = 617;
        });
        let through = round(|round| {
            (round.hits, round.collapsed, round.calls) = (300, 700, 234);
        });
        let summary = summary(&straight, &through);
        for part in [
            "617 of 1,234 requests came back as 429",
            "every request got its answer; 1,000 shared",
            "the 234 calls that were left",
        ] {
            assert!(summary.contains(part), "{summary}");
        }
        let table = table(&straight, &through).to_string();
        assert!(table.contains("617") && table.contains("1,234"), "{table}");
    }

    #[test]
    fn what_must_not_be_is_named() {
        let fine = || round(|round| round.seen.throttled = 5);
        assert!(problems(&fine(), &fine()).is_empty());
        let wrong = round(|round| round.seen.wrong = 1);
        let failed = round(|round| {
            round.seen.failed = 2;
            round.seen.example = Some("answered 502 Bad Gateway".to_owned());
        });
        let refused = round(|round| round.refused = 3);
        assert_eq!(problems(&refused, &fine()).len(), 0);
        assert_eq!(problems(&wrong, &refused).len(), 2);
        let said = problems(&failed, &fine()).join("");
        assert!(said.ends_with("2 requests failed, as in: answered 502 Bad Gateway"));
    }
}
