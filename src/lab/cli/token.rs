//! `alexa-gateway token`: mints tokens for the mock, one per line. Alexa accepts none
//! of them.

use std::time::Duration;

use crate::lab::mock::token::EXAMPLE_SKILL;
use crate::lab::mock::{TokenScenario, TokenSpec};
use crate::region::Region;

/// Print tokens that the mock accepts.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Region whose API accepts the tokens: na, eu or fe.
    #[arg(long, default_value = "na")]
    region: Region,
    /// Skill that the tokens are issued to.
    #[arg(long, default_value = EXAMPLE_SKILL)]
    skill: String,
    /// Time until the tokens expire.
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// Name of the speaker. Default: a different one for each token.
    #[arg(long, value_name = "NAME")]
    person: Option<String>,
    /// Response of the mock to these tokens: ok, no-consent, forbidden, no-value,
    /// unauthorized, not-found, throttled, error, unavailable or bad-request.
    #[arg(long, default_value_t)]
    scenario: TokenScenario,
    /// Number of tokens.
    #[arg(long, default_value_t = 1)]
    count: usize,
}

/// Prints the tokens to standard output; no two are equal.
#[expect(clippy::print_stdout, reason = "the tokens are this command's output")]
pub fn run(args: Args) {
    let spec = TokenSpec {
        region: args.region,
        skill: args.skill,
        lifetime: args.lifetime,
        person: args.person,
        scenario: args.scenario,
        ..TokenSpec::default()
    };
    for _ in 0..args.count {
        println!("{}", spec.mint());
    }
}
