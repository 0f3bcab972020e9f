//! `alexa-gateway simulate`: compares configurations on the same traffic. The simulation
//! itself is [`crate::lab::simulate`].
//!
//! The table goes to standard output, progress to standard error.

mod configs;
mod flags;
mod progress;
mod table;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use self::progress::Progress;
use self::table::Column;
use super::Failure;
use super::figures::count;
use crate::lab::simulate::figures::Figures;
use crate::lab::simulate::plot::NamedReport;
use crate::lab::simulate::{Report, Scenario, Trace, log, plot};
pub use flags::{AlexaArgs, LoadArgs};

/// Replay traffic against a modelled Alexa under one or more configurations, and
/// compare the results.
///
/// The gateway is the real one. The network is a model, and no call leaves this
/// machine. An hour of 500 requests per second takes less than a minute.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A configuration to simulate; can be repeated. Default: the built-in defaults.
    #[arg(long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,
    /// The seed of all random numbers: the same seed gives the same result.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Draw rates, queue and 429s over time into this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print all figures as JSON, those of each skill included.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    alexa: AlexaArgs,
}

/// Simulates each configuration and prints the figures side by side.
///
/// # Errors
/// A configuration is bad, the trace cannot be read, the plot cannot be written, or
/// the flags contradict each other.
pub fn run(args: Args, environment: Vec<(String, String)>) -> Result<(), Failure> {
    args.alexa.check()?;
    let configs = configs::load(&args.configs, &environment).map_err(Failure::BadConfiguration)?;
    let scenario = Scenario {
        trace: trace(&args)?,
        alexa: args.alexa.alexa(),
        seed: args.seed,
    };
    let mut reports = Vec::new();
    for named in configs {
        let progress = Progress::start(&named.name, scenario.trace.length);
        let report = scenario.play(&named.config, &[], |at| progress.show(at));
        let report = report.with_context(|| format!("simulating {}", named.name))?;
        progress.finish(report.total().asked);
        reports.push((named.name, report));
    }
    if let Some(file) = &args.plot {
        write_plot(file, &reports)?;
    }
    let columns = reports.into_iter().map(|(config, report)| Column {
        config,
        figures: Figures::of(&report),
    });
    print(&columns.collect::<Vec<_>>(), args.json)?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a remark about the log")]
fn trace(args: &Args) -> anyhow::Result<Trace> {
    let Some(file) = &args.load.trace else {
        return Ok(Trace::draw(&args.load.load(), args.seed));
    };
    let flag = || format!("--trace {}", file.display());
    let opened = File::open(file).with_context(flag)?;
    let logged = log::read(BufReader::new(opened)).with_context(flag)?;
    eprintln!(
        "{}: {} requests, {} other lines skipped",
        file.display(),
        count(logged.requests),
        count(logged.skipped),
    );
    Ok(logged.trace)
}

fn write_plot(file: &Path, reports: &[(String, Report)]) -> anyhow::Result<()> {
    let named = reports.iter().map(|(name, report)| NamedReport {
        name: name.as_str(),
        report,
    });
    let svg = plot::svg(&named.collect::<Vec<_>>()).context("drawing the plot")?;
    fs::write(file, svg).with_context(|| format!("--plot: writing {}", file.display()))
}

#[expect(clippy::print_stdout, reason = "the output of this command")]
fn print(columns: &[Column], json: bool) -> anyhow::Result<()> {
    if json {
        let json = serde_json::to_string_pretty(columns).context("writing JSON")?;
        println!("{json}");
    } else {
        println!("{}", table::table(columns));
    }
    Ok(())
}
