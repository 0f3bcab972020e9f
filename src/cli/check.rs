//! `alexa-gateway check`: what is wrong with a configuration, all of it at once.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::layers::Problem;
use crate::config::reload::Origins;
use crate::upstream::client::Client;

use super::BAD_CONFIGURATION;

/// Check a configuration and tell every problem in it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file to check; without it, the defaults and the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective configuration: default, file and environment in one.
    #[arg(long)]
    effective: bool,
}

/// Prints the problems to standard error, or the effective configuration to
/// standard output. Exits with 64 if there is a problem.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command's output"
)]
pub(super) fn run(args: Args, environment: Vec<(String, String)>) -> ExitCode {
    let origins = Origins {
        file: args.config,
        environment,
    };
    let loaded = origins.load().map_err(told).and_then(|config| {
        // Certificates are files of their own, and may be as wrong.
        match Client::new(&config.file.upstream) {
            Ok(_) => Ok(config),
            Err(error) => Err(vec![error.to_string()]),
        }
    });
    match loaded {
        Ok(config) if args.effective => {
            print!("{}", config.effective());
            ExitCode::SUCCESS
        }
        Ok(_) => {
            eprintln!("the configuration is valid");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            let s = if problems.len() == 1 { "" } else { "s" };
            eprintln!("{} problem{s}", problems.len());
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

fn told(problems: Vec<Problem>) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}
