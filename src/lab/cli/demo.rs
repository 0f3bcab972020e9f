//! `alexa-gateway demo`: what the gateway is for, in half a minute. Flags,
//! progress and the closing words live here; the morning itself is
//! [`crate::lab::demo`].
//!
//! The table goes to standard output, progress to standard error: a bar on a
//! terminal, plain lines elsewhere.

mod verdict;

use std::pin::pin;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::verdict::{problems, summary, table};
use crate::lab::demo::play::Seen;
use crate::lab::demo::schedule::{Field, Load, SERVICES, Schedule};
use crate::lab::demo::{LATENCY, QUOTA, Round, Stage};
use crate::region::Region;

/// Play a morning spike straight to a make-believe Alexa, then through the
/// gateway, and compare.
///
/// Everything runs in this process, on loopback; Amazon is not called. It takes
/// about 20 seconds.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Keep serving afterwards, to be tried out, until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// Where the random numbers of the spike start; both rounds share them.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

/// Plays both rounds and prints what came of them; ends early when `shutdown`
/// completes.
///
/// # Errors
///
/// Fails when nothing can be started, and when a round shows something that
/// must not be: an answer that belongs to another token, a request that ends in
/// neither 200 nor 429, or a call of the gateway beyond the quota.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let schedule = Schedule::draw(&Load::MORNING, args.seed);
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

/// Plays both rounds, and prints the table and what it means.
#[expect(clippy::print_stdout, reason = "the table is this command's output")]
async fn compare(stage: &mut Stage, schedule: &Schedule) -> anyhow::Result<()> {
    introduce(schedule);
    let progress = Progress::begin("straight to Alexa", schedule);
    let straight = stage.straight(schedule, |seen| progress.show(seen)).await;
    progress.end(&straight.seen);
    let progress = Progress::begin("through the gateway", schedule);
    let through = stage
        .through_gateway(schedule, |seen| progress.show(seen))
        .await;
    progress.end(&through.seen);
    println!("\n{}\n", table(&straight, &through));
    let problems = problems(&straight, &through);
    if problems.is_empty() {
        println!("{}", summary(&straight, &through));
        return Ok(());
    }
    anyhow::bail!("something is wrong: {}", problems.join("; "))
}

/// Says what is going to happen.
#[expect(clippy::print_stderr, reason = "it goes with the progress")]
fn introduce(schedule: &Schedule) {
    let (latency, jitter) = LATENCY;
    eprintln!(
        "It is 7 a.m.: within {} seconds, {} people speak to {} skills in 3 regions.\n\
         For each of them, {SERVICES} services of the skill ask Alexa who it is: name, given\n\
         name, mobile number. This Alexa is make-believe; it answers in {} ± {} ms\n\
         and allows a skill {} calls a second.\n",
        Load::MORNING.length.as_secs(),
        schedule.turns.len(),
        Load::MORNING.skills.len(),
        latency.as_millis(),
        jitter.as_millis(),
        QUOTA.requests,
    );
}

/// How far a round is, on standard error.
struct Progress {
    name: &'static str,
    bar: ProgressBar,
}

impl Progress {
    #[expect(clippy::print_stderr, reason = "progress where there is no terminal")]
    fn begin(name: &'static str, schedule: &Schedule) -> Self {
        let total = schedule.asks.len() as u64;
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        // A style that does not parse would leave the plain bar.
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:19} {bar:20} {pos:>4}/{len}  {msg}")
        {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.set_prefix(name);
        if bar.is_hidden() {
            eprintln!("{name}: {total} requests ...");
        }
        Self { name, bar }
    }

    fn show(&self, seen: &Seen) {
        self.bar.set_position(seen.requests);
        self.bar.set_message(progress_message(seen));
    }

    #[expect(clippy::print_stderr, reason = "goes with the bar, or stands for it")]
    fn end(self, seen: &Seen) {
        let hidden = self.bar.is_hidden();
        self.bar.finish();
        // A finished bar leaves the cursor at its end.
        match hidden {
            true => eprintln!("{}: {}", self.name, progress_message(seen)),
            false => eprintln!(),
        }
    }
}

fn progress_message(seen: &Seen) -> String {
    let mut text = format!("{} × 200, {} × 429", seen.ok, seen.throttled);
    if seen.wrong + seen.failed > 0 {
        text += &format!(", {} bad", seen.wrong + seen.failed);
    }
    text
}

/// Says how to go on by hand.
#[expect(clippy::print_stdout, reason = "an invitation is to be read")]
fn invite(stage: &Stage) {
    println!("\nBoth keep running until Ctrl-C:\n");
    println!("  gateway  {}", stage.gateway());
    println!("  status   {}/-/status", stage.admin());
    println!("  metrics  {}/metrics", stage.admin());
    for region in Region::ALL {
        println!("  Alexa    {} ({region})", stage.alexa(region));
    }
    // By command, because a token printed here fills the screen and expires.
    let program = std::env::current_exe().unwrap_or_else(|_| "alexa-gateway".into());
    println!("\nTo try it, mint a token and ask twice within 10 s; the second is a hit:\n");
    println!("TOKEN=$('{}' token --region eu)", program.display());
    println!("curl -i -H \"Authorization: Bearer $TOKEN\" \\");
    println!("  '{}{}'", stage.gateway(), Field::Name.path());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_command_ends_at_once_when_it_is_told_to() {
        let args = Args {
            stay: true,
            seed: 1,
        };
        run(args, std::future::ready(())).await.unwrap();
    }
}
