//! The flags of `simulate` that say what is simulated.

use std::path::PathBuf;
use std::time::Duration;

use crate::lab::simulate::trace::{Load, OPERATIONS, Shape, SkillLoad};
use crate::lab::simulate::upstream::{Alexa, Change, Outage, OutageKind, Setting};
use crate::lab::window::WindowKind;
use crate::limits::Quota;
use crate::region::Region;

/// Who asks what, and when.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Traffic")]
pub struct LoadArgs {
    /// Replay the log of `serve` with log.format = "json", in place of traffic
    /// made up by the flags below.
    #[arg(long, value_name = "LOG", conflicts_with_all = ["skills", "noisy", "rate", "duration", "shape", "fan_out", "operations", "timeout", "no_cache"])]
    pub(super) trace: Option<PathBuf>,
    /// How many skills, spread over the three regions.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_one)]
    skills: usize,
    /// How many times as much as each other the first skill asks.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = rate)]
    noisy: f64,
    /// Requests per second of all skills together, duplicates included.
    #[arg(long, value_name = "N", default_value_t = 500.0, value_parser = rate)]
    rate: f64,
    /// How long the traffic lasts.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    duration: Duration,
    /// How the rate changes: steady; morning, up to twice the rate in the middle
    /// and down again; or step, twice the rate from the middle on.
    #[arg(long, value_name = "SHAPE", default_value = "steady", value_parser = ["steady", "morning", "step"])]
    shape: String,
    /// How many services ask for the same within one turn.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    fan_out: usize,
    /// How many different things each service asks for, up to 7.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = operations)]
    operations: usize,
    /// How long callers say that they wait (Alexa-Gateway-Timeout-Ms).
    #[arg(long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// The share of requests with Cache-Control: no-cache, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    no_cache: f64,
}

/// How the modelled Alexa behaves.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Alexa")]
pub struct AlexaArgs {
    /// How long an answer takes.
    #[arg(long, value_name = "TIME", default_value = "60ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// How far an answer may stray from the latency, either way.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// What one skill may ask of a region: 20/1s, or none. Repeated with a time,
    /// one that changes: 20/1s, then 5/1s@10m.
    #[arg(long, value_name = "QUOTA[@TIME]", default_value = "20/1s", value_parser = timed_quota)]
    skill_quota: Vec<TimedQuota>,
    /// The same for all skills together.
    #[arg(long, value_name = "QUOTA[@TIME]", default_value = "none", value_parser = timed_quota)]
    region_quota: Vec<TimedQuota>,
    /// What kind of quota: sliding or fixed windows, or a bucket that holds the
    /// quota's number and is filled evenly.
    #[arg(long, value_name = "KIND", default_value_t)]
    window: WindowKind,
    /// A 429 says when to come back.
    #[arg(long)]
    retry_after: bool,
    /// The share of calls that are counted but never answered, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    timeouts: f64,
    /// The share of calls whose connection breaks.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    resets: f64,
    /// The share of calls that are answered 500.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    errors: f64,
    /// A region is not there: eu@10m+2m, from the tenth minute for two; refused,
    /// or as said behind a colon: eu@10m+2m:silent, or :503. May be repeated.
    #[arg(long = "outage", value_name = "REGION@TIME+TIME", value_parser = outage)]
    outages: Vec<Outage>,
}

/// A quota, or none, from a moment on.
type TimedQuota = (Option<Quota>, Duration);

impl LoadArgs {
    /// The traffic that the flags describe.
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
    /// Tells whether the flags make sense together.
    ///
    /// # Errors
    /// A call would meet more than one fate.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let shares = self.timeouts + self.resets + self.errors;
        anyhow::ensure!(
            shares <= 1.0,
            "--timeouts, --resets and --errors are shares of all calls and add up to {shares}, \
             which is more than 1"
        );
        Ok(())
    }

    /// The Alexa that the flags describe.
    pub(super) fn alexa(&self) -> Alexa {
        let skill = |(quota, at): &TimedQuota| Change {
            at: *at,
            to: Setting::SkillQuota(*quota),
        };
        let region = |(quota, at): &TimedQuota| Change {
            at: *at,
            to: Setting::RegionQuota(*quota),
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

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a whole number, at least 1, is wanted".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn operations(text: &str) -> Result<usize, String> {
    let most = OPERATIONS.len();
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("a whole number from 1 to {most} is wanted"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "a number above 0 is wanted".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share from 0 to 1 is wanted, such as 0.01".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a time longer than zero is wanted".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

fn timed_quota(text: &str) -> Result<TimedQuota, String> {
    let (quota, at) = text.split_once('@').unwrap_or((text, "0s"));
    let at = humantime::parse_duration(at).map_err(|error| error.to_string())?;
    let quota = match quota {
        "none" => None,
        quota => Some(
            quota
                .parse()
                .map_err(|error: crate::limits::QuotaError| error.to_string())?,
        ),
    };
    Ok((quota, at))
}

fn outage(text: &str) -> Result<Outage, String> {
    let shape = || "an outage is written as region@from+length, such as eu@10m+2m".to_owned();
    let (region, rest) = text.split_once('@').ok_or_else(shape)?;
    let region = Region::ALL.into_iter().find(|r| r.name() == region);
    let region = region.ok_or("the region is na, eu or fe")?;
    let (times, kind) = rest.split_once(':').unwrap_or((rest, "refused"));
    let (from, length) = times.split_once('+').ok_or_else(shape)?;
    let kind = match kind {
        "refused" => OutageKind::Refused,
        "silent" => OutageKind::Silent,
        "503" => OutageKind::Unavailable,
        _ => return Err("an outage is refused, silent or 503".to_owned()),
    };
    let time = |text| humantime::parse_duration(text).map_err(|error| error.to_string());
    Ok(Outage {
        region,
        from: time(from)?,
        length: time(length)?,
        kind,
    })
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
    fn a_noisy_skill_takes_its_part_of_the_rate() {
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

    #[test]
    fn quotas_may_change_on_the_way() {
        let minute = Duration::from_secs(60);
        let quota = Some("5/1s".parse().unwrap());
        assert_eq!(timed_quota("5/1s"), Ok((quota, Duration::ZERO)));
        assert_eq!(timed_quota("5/1s@10m"), Ok((quota, 10 * minute)));
        assert_eq!(timed_quota("none@1m"), Ok((None, minute)));
        for bad in ["5", "5/1s@", "0/1s", "5/1s@soon"] {
            assert!(timed_quota(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_outage_has_a_region_two_times_and_a_kind() {
        let minute = Duration::from_secs(60);
        let read = outage("eu@10m+2m:silent").unwrap();
        assert_eq!(
            read,
            Outage {
                region: Region::Eu,
                from: 10 * minute,
                length: 2 * minute,
                kind: OutageKind::Silent,
            }
        );
        assert_eq!(outage("na@0s+1s").unwrap().kind, OutageKind::Refused);
        for bad in ["eu", "xx@1m+1m", "eu@1m", "eu@1m+1m:slow", "eu@1m+x"] {
            assert!(outage(bad).is_err(), "{bad}");
        }
    }
}
