//! The flags of `simulate` that describe the traffic and Alexa.

mod parse;

use std::path::PathBuf;
use std::time::Duration;

use self::parse::TimedQuota;
use crate::lab::simulate::trace::{Load, Shape, SkillLoad};
use crate::lab::simulate::upstream::{Alexa, Change, Outage, Setting};
use crate::lab::window::WindowKind;

/// The traffic of the skills.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub struct LoadArgs {
    /// Replay the log of `serve` with log.format = "json" instead of generated
    /// traffic.
    #[arg(long, value_name = "LOG", conflicts_with_all = ["skills", "noisy", "rate", "duration", "shape", "fan_out", "operations", "timeout", "no_cache"])]
    pub(super) trace: Option<PathBuf>,
    /// The number of skills, spread over the three regions.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = parse::at_least_one)]
    skills: usize,
    /// The first skill sends N times as many requests as each of the others.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = parse::rate)]
    noisy: f64,
    /// Requests per second of all skills together, duplicates included.
    #[arg(long, value_name = "N", default_value_t = 500.0, value_parser = parse::rate)]
    rate: f64,
    /// The length of the traffic.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse::span)]
    duration: Duration,
    /// How the rate changes: steady; morning: up to twice the rate in the middle
    /// and down again; step: twice the rate from the middle on.
    #[arg(long, value_name = "SHAPE", default_value = "steady", value_parser = ["steady", "morning", "step"])]
    shape: String,
    /// The number of services that send the same requests in one turn.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = parse::at_least_one)]
    fan_out: usize,
    /// The number of operations that each service calls, up to 7.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = parse::operations)]
    operations: usize,
    /// The time-out that callers state (Alexa-Gateway-Timeout-Ms).
    #[arg(long, value_name = "TIME", value_parser = parse::span)]
    timeout: Option<Duration>,
    /// The share of requests with Cache-Control: no-cache, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse::share)]
    no_cache: f64,
}

/// The behaviour of the modelled Alexa.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Alexa")]
pub struct AlexaArgs {
    /// The mean latency of Alexa.
    #[arg(long, value_name = "TIME", default_value = "60ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// The largest deviation from the mean latency, either way.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// The quota of a skill in each region: 20/1s, or none. Can be repeated with a
    /// time from which it applies: 20/1s, then 5/1s@10m.
    #[arg(long, value_name = "QUOTA[@TIME]", default_value = "20/1s", value_parser = parse::timed_quota)]
    skill_quota: Vec<TimedQuota>,
    /// The quota of all skills together in each region.
    #[arg(long, value_name = "QUOTA[@TIME]", default_value = "none", value_parser = parse::timed_quota)]
    region_quota: Vec<TimedQuota>,
    /// How requests count against the quotas: in sliding or fixed windows, or from a
    /// token bucket that holds the quota's number and is refilled evenly.
    #[arg(long, value_name = "KIND", default_value_t)]
    window: WindowKind,
    /// Send Retry-After with a 429.
    #[arg(long)]
    retry_after: bool,
    /// The share of calls that are never answered, 0 to 1. They count.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse::share)]
    timeouts: f64,
    /// The share of calls that lose their connection. They count.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse::share)]
    resets: f64,
    /// The share of calls that are answered 500. They count.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = parse::share)]
    errors: f64,
    /// An outage of a region: eu@10m+2m starts after ten minutes and lasts two.
    /// Connections are refused; eu@10m+2m:silent never answers, eu@10m+2m:503
    /// answers 503. Can be repeated.
    #[arg(long = "outage", value_name = "REGION@TIME+TIME", value_parser = parse::outage)]
    outages: Vec<Outage>,
}

impl LoadArgs {
    /// The load that the flags describe.
    pub(super) fn load(&self) -> Load {
        Load {
            shape: match self.shape.as_str() {
                "morning" => Shape::Morning,
                "step" => Shape::Step(self.duration / 2, 2.0),
                _ => Shape::Steady,
            },
            fan_out: self.fan_out,
            operations: self.operations,
            timeout: self.timeout,
            no_cache: self.no_cache,
            ..Load::steady(self.skills(), self.duration)
        }
    }

    fn skills(&self) -> Vec<SkillLoad> {
        let mut skills = SkillLoad::equal(self.skills, self.rate);
        let share = self.rate / (self.noisy + (self.skills - 1) as f64);
        for (n, skill) in skills.iter_mut().enumerate() {
            skill.rate = if n == 0 { self.noisy * share } else { share };
        }
        skills
    }
}

impl AlexaArgs {
    /// Checks the flags against each other.
    ///
    /// # Errors
    /// The shares of faults exceed 1.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let shares = self.timeouts + self.resets + self.errors;
        anyhow::ensure!(
            shares <= 1.0,
            "--timeouts, --resets and --errors are shares of all calls; their sum is {shares}, \
             more than 1"
        );
        Ok(())
    }

    /// The Alexa that the flags describe.
    pub(super) fn alexa(&self) -> Alexa {
        let skill = |timed: &TimedQuota| Change {
            at: timed.at,
            to: Setting::SkillQuota(timed.quota),
        };
        let region = |timed: &TimedQuota| Change {
            at: timed.at,
            to: Setting::RegionQuota(timed.quota),
        };
        Alexa {
            latency: self.latency,
            jitter: self.jitter,
            window: self.window,
            retry_after: self.retry_after,
            timeouts: self.timeouts,
            resets: self.resets,
            errors: self.errors,
            changes: self
                .skill_quota
                .iter()
                .map(skill)
                .chain(self.region_quota.iter().map(region))
                .collect(),
            outages: self.outages.clone(),
            ..Alexa::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Flags {
        #[command(flatten)]
        load: LoadArgs,
    }

    #[test]
    fn a_noisy_skill_sends_its_multiple_within_the_total_rate() {
        let rates = |flags: &[&str]| -> Vec<f64> {
            let flags = Flags::try_parse_from([&["simulate"], flags].concat()).unwrap();
            let skills = flags.load.load().skills;
            skills.iter().map(|skill| skill.rate).collect()
        };
        let flags = ["--skills", "3", "--rate", "60"];
        assert_eq!(rates(&flags), [20.0, 20.0, 20.0]);
        let noisy = [&flags[..], &["--noisy", "4"]].concat();
        assert_eq!(rates(&noisy), [40.0, 10.0, 10.0]);
    }
}
