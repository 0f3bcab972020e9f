//! `alexa-gateway simulate`: what configurations would do to a trace. Flags,
//! progress and the table live here; the simulation is [`crate::lab::simulate`].
//!
//! The table goes to standard output, progress to standard error: a bar on a
//! terminal, a line for each configuration elsewhere.

mod flags;
mod table;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Failure;
use super::figures::count;
use crate::config::Config;
use crate::config::reload::Origins;
use crate::lab::simulate::report::Figures;
use crate::lab::simulate::{Report, Scenario, Trace, log, plot};
pub use flags::{AlexaArgs, LoadArgs};

/// Replay traffic against a modelled Alexa, in no time, under one or several
/// configurations, and compare.
///
/// The gateway is the real one; the network is not, and nothing is called. An
/// hour of 500 requests a second takes less than a minute.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A configuration to try; may be repeated. Without one, the defaults.
    #[arg(long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,
    /// Where the random numbers start: the same seed, the same result.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Draw rates, queue and 429s over time into this file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print the figures as JSON, with those of each skill.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: LoadArgs,
    #[command(flatten)]
    alexa: AlexaArgs,
}

/// One configuration and what became of it.
#[derive(serde::Serialize)]
struct Column {
    config: String,
    #[serde(flatten)]
    figures: Figures,
}

/// Simulates each configuration and prints the figures side by side.
///
/// # Errors
/// A configuration is bad, the trace cannot be read, the plot cannot be written, or
/// the flags contradict each other.
#[expect(clippy::print_stdout, reason = "this is the command's output")]
pub fn run(args: Args, environment: Vec<(String, String)>) -> Result<(), Failure> {
    args.alexa.check()?;
    let configs = load(&args.configs, &environment).map_err(Failure::BadConfiguration)?;
    let scenario = Scenario {
        trace: trace(&args)?,
        alexa: args.alexa.alexa(),
        seed: args.seed,
    };
    let mut reports = Vec::new();
    for (name, config) in configs {
        let progress = Progress::begin(&name, scenario.trace.length);
        let report = scenario.play(&config, &[], |at| progress.show(at));
        let report = report.with_context(|| format!("simulating {name}"))?;
        progress.end(&report);
        reports.push((name, report));
    }
    if let Some(file) = &args.plot {
        let named: Vec<_> = reports.iter().map(|(n, r)| (n.as_str(), r)).collect();
        let svg = plot::svg(&named).context("drawing the plot")?;
        fs::write(file, svg).with_context(|| format!("--plot: writing {}", file.display()))?;
    }
    let columns = reports.into_iter().map(|(config, report)| Column {
        config,
        figures: report.figures(),
    });
    let columns: Vec<_> = columns.collect();
    match args.json {
        true => {
            let json = serde_json::to_string_pretty(&columns).context("writing JSON")?;
            println!("{json}");
        }
        false => println!("{}", table::table(&columns)),
    }
    Ok(())
}

/// The configurations by what they are called in the output, or all that is wrong
/// with any of them.
fn load(
    files: &[PathBuf],
    environment: &[(String, String)],
) -> Result<Vec<(String, Config)>, Vec<String>> {
    let origins = |file| Origins {
        file,
        environment: environment.to_vec(),
    };
    let named: Vec<_> = match files {
        [] => vec![("defaults".to_owned(), origins(None))],
        files => names(files)
            .into_iter()
            .zip(files.iter().cloned().map(|file| origins(Some(file))))
            .collect(),
    };
    let (mut configs, mut problems) = (Vec::new(), Vec::new());
    for (name, origins) in named {
        match origins.load() {
            Ok(config) => configs.push((name, config)),
            Err(more) => problems.extend(more.iter().map(ToString::to_string)),
        }
    }
    match problems.is_empty() {
        true => Ok(configs),
        false => Err(problems),
    }
}

/// The names of files, or their paths where two names are equal.
fn names(files: &[PathBuf]) -> Vec<String> {
    let name = |file: &Path| file.file_name().unwrap_or_default().to_owned();
    let named = files.iter().map(|file| {
        let same = files.iter().filter(|other| name(other) == name(file));
        match same.count() {
            1 => name(file).display().to_string(),
            _ => file.display().to_string(),
        }
    });
    named.collect()
}

#[expect(clippy::print_stderr, reason = "a word about the lines left out")]
fn trace(args: &Args) -> anyhow::Result<Trace> {
    let Some(file) = &args.load.trace else {
        return Ok(Trace::draw(&args.load.load(), args.seed));
    };
    let at_fault = || format!("--trace {}", file.display());
    let opened = File::open(file).with_context(at_fault)?;
    let read = log::read(BufReader::new(opened)).with_context(at_fault)?;
    eprintln!(
        "{}: {} requests, {} other lines left out",
        file.display(),
        count(read.requests),
        count(read.skipped),
    );
    Ok(read.trace)
}

/// How far a simulation is, on standard error.
struct Progress {
    name: String,
    bar: ProgressBar,
}

impl Progress {
    #[expect(clippy::print_stderr, reason = "progress where there is no terminal")]
    fn begin(name: &str, length: Duration) -> Self {
        let draw_to = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(length.as_secs().max(1)), draw_to);
        // A style that does not parse would leave the plain bar.
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:20} {pos:>5}/{len} s") {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(name.to_owned());
        if bar.is_hidden() {
            let length = humantime::format_duration(Duration::from_secs(length.as_secs().max(1)));
            eprintln!("{name}: simulating {length} ...");
        }
        Self {
            name: name.to_owned(),
            bar,
        }
    }

    fn show(&self, at: Duration) {
        self.bar.set_position(at.as_secs());
    }

    #[expect(clippy::print_stderr, reason = "goes with the bar, or stands for it")]
    fn end(self, report: &Report) {
        let took = self.bar.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        let asked = report.total().asked;
        eprintln!("{}: {} requests in {took:.1} s", self.name, count(asked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_named_by_file_and_by_path_where_that_is_needed() {
        let files = ["a/one.toml", "b/one.toml", "b/two.toml"].map(PathBuf::from);
        assert_eq!(names(&files), ["a/one.toml", "b/one.toml", "two.toml"]);
    }
}
