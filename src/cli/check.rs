//! `alexa-gateway check`: reports every problem of a configuration at once.

use std::path::PathBuf;
use std::process::ExitCode;

use super::bad_configuration;
use crate::config::reload::Origins;
use crate::upstream::client::Client;

/// Check a configuration and report every problem in it.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file to check; without it, the defaults and the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective configuration: defaults, file and environment merged.
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
    let config = match origins.load() {
        Ok(config) => config,
        Err(problems) => return bad_configuration(&problems),
    };
    // Certificates are files of their own and can be wrong as well.
    if let Err(error) = Client::new(&config.gateway.upstream.client) {
        return bad_configuration(&[error]);
    }
    if args.effective {
        print!("{}", config.effective());
    } else {
        eprintln!("the configuration is valid");
    }
    ExitCode::SUCCESS
}
