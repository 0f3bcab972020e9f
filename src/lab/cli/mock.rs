//! `alexa-gateway mock`: flags and output. The mock itself is [`crate::lab::mock`].

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

use crate::lab::mock::{Fault, Faults, Mock, MockBehaviour, MockConfig, NameShape, RetryAfter};
use crate::lab::names::UnknownName;
use crate::lab::window::WindowKind;
use crate::limits::Quota;
use crate::region::Region;

/// Serve a mock of Alexa in three regions, on loopback.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Listen address of North America; port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9101")]
    na: SocketAddr,
    /// Listen address of Europe.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9102")]
    eu: SocketAddr,
    /// Listen address of the Far East.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9103")]
    fe: SocketAddr,
    /// Mean time from request to response.
    #[arg(long, value_name = "TIME", default_value = "60ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Maximum deviation from the latency, either way.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Quota of each skill in each region, such as 20/1s.
    #[arg(long, value_name = "QUOTA")]
    skill_quota: Option<Quota>,
    /// Quota of all skills together in each region, such as 200/1s.
    #[arg(long, value_name = "QUOTA")]
    region_quota: Option<Quota>,
    /// How quotas count: in sliding or fixed windows, or with a token bucket: sliding,
    /// fixed or bucket.
    #[arg(long, value_name = "KIND", default_value_t)]
    window: WindowKind,
    /// Form of Retry-After in a 429: seconds, date or none.
    #[arg(long, value_name = "FORM", default_value_t)]
    retry_after: RetryAfter,
    /// JSON of a name: object ({"name": ...}) or string.
    #[arg(long, value_name = "SHAPE", default_value_t)]
    name_shape: NameShape,
    /// Share of requests that meet a fault, such as reset=0.01; may be repeated. The
    /// faults are 500, 503, 429, reset, cut, stall, html and slow.
    #[arg(long = "fault", value_name = "FAULT=RATE", value_parser = fault)]
    faults: Vec<(Fault, f64)>,
    /// Seed of the random numbers.
    #[arg(long, default_value_t)]
    seed: u64,
}

/// Serves until `shutdown` completes, then finishes responses in progress.
///
/// # Errors
///
/// The fault rates are invalid, or an address is in use or not a loopback address.
#[expect(
    clippy::print_stdout,
    reason = "the addresses are this command's output"
)]
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mock = Mock::start(args.try_into()?).await?;
    println!("# The mock is listening. Gateway configuration:");
    for region in Region::ALL {
        println!("[regions.{region}]");
        println!("upstream = \"http://{}\"", mock.address(region));
    }
    shutdown.await;
    mock.shutdown().await;
    Ok(())
}

impl TryFrom<Args> for MockConfig {
    type Error = anyhow::Error;

    fn try_from(args: Args) -> Result<Self, Self::Error> {
        Ok(Self {
            na: args.na,
            eu: args.eu,
            fe: args.fe,
            behaviour: MockBehaviour {
                latency: args.latency,
                jitter: args.jitter,
                skill_quota: args.skill_quota,
                region_quota: args.region_quota,
                window: args.window,
                retry_after: args.retry_after,
                name_shape: args.name_shape,
                faults: Faults::new(args.faults).context("--fault")?,
                seed: args.seed,
            },
        })
    }
}

fn fault(text: &str) -> Result<(Fault, f64), String> {
    let (fault, rate) = text
        .split_once('=')
        .ok_or("expected a fault and its rate, such as reset=0.01")?;
    let fault = fault
        .parse()
        .map_err(|error: UnknownName| error.to_string())?;
    let rate = rate
        .parse()
        .map_err(|_| format!("invalid rate `{rate}`: expected a number from 0 to 1"))?;
    Ok((fault, rate))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(flags: &str) -> Result<Args, clap::Error> {
        let line = ["mock"].into_iter().chain(flags.split_whitespace());
        Ok(Line::try_parse_from(line)?.args)
    }

    fn config(flags: &str) -> anyhow::Result<MockConfig> {
        args(flags)?.try_into()
    }

    #[test]
    fn flags_become_behaviour() {
        let flags = "--latency 5ms --skill-quota 20/1s --retry-after date --name-shape string \
                     --window fixed --fault reset=0.25 --fault 500=0.5 --seed 7";
        let behaviour = config(flags).unwrap().behaviour;
        assert_eq!(behaviour.latency, Duration::from_millis(5));
        assert_eq!(behaviour.skill_quota, Some("20/1s".parse().unwrap()));
        assert_eq!(behaviour.retry_after, RetryAfter::Date);
        assert_eq!(behaviour.name_shape, NameShape::String);
        let rates = [(Fault::Reset, 0.25), (Fault::Error500, 0.5)];
        assert_eq!(behaviour.faults, Faults::new(rates).unwrap());
    }

    #[test]
    fn flags_that_make_no_sense_are_refused() {
        for flags in [
            "--fault reset",
            "--fault boom=1",
            "--fault cut=2",
            "--skill-quota 0/1s",
        ] {
            assert!(config(flags).is_err(), "{flags}");
        }
    }

    #[tokio::test]
    async fn the_command_ends_when_it_is_told_to() {
        let args = args("--na 127.0.0.1:0 --eu 127.0.0.1:0 --fe 127.0.0.1:0").unwrap();
        run(args, std::future::ready(())).await.unwrap();
    }
}
