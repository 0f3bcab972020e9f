//! `alexa-gateway demo`: what the gateway does, in half a minute. The demo itself is
//! [`crate::lab::demo`].
//!
//! The table goes to standard output, progress to standard error.

mod progress;
mod verdict;

use std::pin::pin;

use self::progress::Progress;
use self::verdict::{STRAIGHT, THROUGH, summary, table, violations};
use crate::lab::demo::schedule::{ProfileField, SERVICES, Schedule, Spike};
use crate::lab::demo::{JITTER, LATENCY, QUOTA, Stage};
use crate::region::Region;

/// Play a morning spike straight to a mock of Alexa, then through the gateway, and
/// compare.
///
/// Everything runs in this process on loopback, and Amazon is not called. It takes
/// about 20 seconds.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Keep the mock and the gateway running afterwards, until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// The seed of the spike; both runs play the same requests.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// Plays both runs and prints the result; ends early when `shutdown` completes.
///
/// # Errors
/// The stage cannot be built, or a run shows a violation: a response that belongs to
/// another token, a request that ends in neither 200 nor 429, or a call of the gateway
/// beyond the quota.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let schedule = Schedule::draw(&Spike::MORNING, args.seed);
    let mut stage = Stage::build(args.seed).await?;
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        outcome = compare(&mut stage, &schedule) => outcome?,
        () = &mut shutdown => return Ok(()),
    }
    if args.stay {
        invite(&stage);
        shutdown.await;
    }
    stage.stop().await;
    Ok(())
}

/// Plays both runs, and prints the table and the summary.
#[expect(clippy::print_stdout, reason = "the output of this command")]
async fn compare(stage: &mut Stage, schedule: &Schedule) -> anyhow::Result<()> {
    introduce(schedule);
    let progress = Progress::start(STRAIGHT, schedule.requests.len());
    let straight = stage
        .straight(schedule, |so_far| progress.show(so_far))
        .await;
    progress.finish(&straight.callers);
    let progress = Progress::start(THROUGH, schedule.requests.len());
    let through = stage
        .through_gateway(schedule, |so_far| progress.show(so_far))
        .await;
    progress.finish(&through.callers);
    println!("\n{}\n", table(&straight, &through));
    let violations = violations(&straight, &through);
    anyhow::ensure!(
        violations.is_empty(),
        "the demo failed: {}",
        violations.join("; ")
    );
    println!("{}", summary(&straight, &through));
    Ok(())
}

/// Says what the demo does.
#[expect(clippy::print_stderr, reason = "printed with the progress")]
fn introduce(schedule: &Schedule) {
    eprintln!(
        "It is 7 a.m.: within {} seconds, {} people speak to {} skills in 3 regions. For\n\
         each of them, {SERVICES} services of the skill ask Alexa for the speaker's name, given\n\
         name and mobile number. Alexa is a mock: it answers in {} ± {} ms and allows\n\
         each skill {} calls per second.\n",
        Spike::MORNING.length.as_secs(),
        schedule.turns.len(),
        Spike::MORNING.skills.len(),
        LATENCY.as_millis(),
        JITTER.as_millis(),
        QUOTA.requests,
    );
}

/// Says how to continue by hand.
#[expect(clippy::print_stdout, reason = "the output of this command")]
fn invite(stage: &Stage) {
    println!("\nThe mock and the gateway keep running until Ctrl-C:\n");
    println!("  gateway  {}", stage.gateway());
    println!("  status   {}/-/status", stage.admin());
    println!("  metrics  {}/metrics", stage.admin());
    for region in Region::ALL {
        println!("  Alexa    {} ({region})", stage.alexa(region));
    }
    // A command, because a token would fill the screen and soon expire.
    let program = std::env::current_exe().unwrap_or_else(|_| "alexa-gateway".into());
    println!(
        "\nTo try it, mint a token and send a request twice within 10 s; the second is a hit:\n"
    );
    println!("TOKEN=$('{}' token --region eu)", program.display());
    println!("curl -i -H \"Authorization: Bearer $TOKEN\" \\");
    println!("  '{}{}'", stage.gateway(), ProfileField::Name.path());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shutdown_ends_the_command_at_once() {
        let args = Args {
            stay: true,
            seed: 1,
        };
        run(args, std::future::ready(())).await.unwrap();
    }
}
