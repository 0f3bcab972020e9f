//! Parsers of single flags. Errors say what is expected.

use std::time::Duration;

use crate::lab::simulate::trace::OPERATIONS;
use crate::lab::simulate::upstream::{Outage, OutageKind};
use crate::limits::{Quota, QuotaError};
use crate::region::Region;

/// A quota, or none, that applies from a moment of the trace on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TimedQuota {
    pub(super) quota: Option<Quota>,
    pub(super) at: Duration,
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number, at least 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

pub(super) fn operations(text: &str) -> Result<usize, String> {
    let most = OPERATIONS.len();
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("expected a whole number from 1 to {most}"))
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number above 0".to_owned())
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1, such as 0.01".to_owned())
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("expected a time longer than zero".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn timed_quota(text: &str) -> Result<TimedQuota, String> {
    let (quota, at) = text.split_once('@').unwrap_or((text, "0s"));
    let at = humantime::parse_duration(at).map_err(|error| error.to_string())?;
    let quota = match quota {
        "none" => None,
        quota => Some(
            quota
                .parse()
                .map_err(|error: QuotaError| error.to_string())?,
        ),
    };
    Ok(TimedQuota { quota, at })
}

pub(super) fn outage(text: &str) -> Result<Outage, String> {
    let shape = || "expected region@from+length, such as eu@10m+2m".to_owned();
    let (region, rest) = text.split_once('@').ok_or_else(shape)?;
    let region = Region::ALL.into_iter().find(|r| r.name() == region);
    let region = region.ok_or("expected na, eu or fe as the region")?;
    let (times, kind) = rest.split_once(':').unwrap_or((rest, "refused"));
    let (from, length) = times.split_once('+').ok_or_else(shape)?;
    let kind = match kind {
        "refused" => OutageKind::Refused,
        "silent" => OutageKind::Silent,
        "503" => OutageKind::Unavailable,
        _ => return Err("expected refused, silent or 503 after the colon".to_owned()),
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
    use super::*;

    #[test]
    fn a_quota_can_name_the_time_from_which_it_applies() {
        let minute = Duration::from_secs(60);
        let quota = Some("5/1s".parse().unwrap());
        let timed = |quota, at| TimedQuota { quota, at };
        assert_eq!(timed_quota("5/1s"), Ok(timed(quota, Duration::ZERO)));
        assert_eq!(timed_quota("5/1s@10m"), Ok(timed(quota, 10 * minute)));
        assert_eq!(timed_quota("none@1m"), Ok(timed(None, minute)));
        for bad in ["5", "5/1s@", "0/1s", "5/1s@soon"] {
            assert!(timed_quota(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_outage_names_region_times_and_kind() {
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
