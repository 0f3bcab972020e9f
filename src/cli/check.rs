//! `alexa-gateway check`: what is wrong with a configuration, all of it at once.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::reload::Origins;

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
    match origins.load() {
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
