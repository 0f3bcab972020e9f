//! `alexa-gateway token`: tokens for the mock, one a line. Alexa accepts none
//! of them.

use std::time::Duration;

use crate::lab::mock::token::EXAMPLE_SKILL;
use crate::lab::mock::{TokenScenario, TokenSpec};
use crate::region::Region;

/// Print tokens that the mock accepts.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The region whose API accepts them: na, eu or fe.
    #[arg(long, default_value = "na")]
    region: Region,
    /// The skill that they are issued to.
    #[arg(long, default_value = EXAMPLE_SKILL)]
    skill: String,
    /// How long they are valid from now.
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// The name of the speaker; without it each token has its own.
    #[arg(long, value_name = "NAME")]
    person: Option<String>,
    /// What the mock answers: ok, no-consent, forbidden, no-value,
    /// unauthorized, not-found, throttled, error, unavailable or bad-request.
    #[arg(long, default_value_t)]
    scenario: TokenScenario,
    /// How many to print.
    #[arg(long, default_value_t = 1)]
    count: usize,
}

/// Prints the tokens, each different, to standard output.
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
