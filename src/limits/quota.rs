//! A quota as people say it: so many requests in so much time.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// At most `requests` in any window of length `per`.
///
/// Written `20/1s`: a whole number, a slash, a duration; the burst has no place
/// in this short form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// How many requests one window may hold.
    pub requests: NonZeroU32,
    /// The length of the window; more than zero.
    #[serde(with = "crate::duration")]
    pub per: Duration,
    /// How many of them may go at once; the others then follow evenly, one each
    /// `per / requests`. Without it, all may go at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
}

/// Why a text is not a [`Quota`].
#[derive(Clone, Debug, PartialEq)]
pub enum QuotaError {
    /// There is no slash between the number and the duration.
    Shape,
    /// The number is not a whole number from 1 to 4,294,967,295.
    Requests,
    /// What follows the slash is not a duration.
    Window(humantime::DurationError),
    /// The window has no length.
    EmptyWindow,
}

impl Quota {
    /// The mean rate, in requests per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        f64::from(self.requests.get()) / self.per.as_secs_f64()
    }
}

impl FromStr for Quota {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (requests, per) = text.split_once('/').ok_or(QuotaError::Shape)?;
        let requests = requests.trim().parse().map_err(|_| QuotaError::Requests)?;
        let per = humantime::parse_duration(per.trim()).map_err(QuotaError::Window)?;
        if per.is_zero() {
            return Err(QuotaError::EmptyWindow);
        }
        Ok(Self {
            requests,
            per,
            burst: None,
        })
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            self.requests,
            humantime::format_duration(self.per)
        )
    }
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shape => "a quota is written as requests/duration, such as 20/1s",
            Self::Requests => "a quota needs a whole number of requests, at least 1",
            Self::Window(_) => "a quota needs a duration after the slash, such as 1s or 500ms",
            Self::EmptyWindow => "a quota needs a window longer than zero",
        })
    }
}

impl std::error::Error for QuotaError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Window(error) => Some(error),
            Self::Shape | Self::Requests | Self::EmptyWindow => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_reads_back_as_it_was_written() {
        for text in ["20/1s", "1/500ms", "100/1m"] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_quota_that_admits_nothing_or_has_no_window_is_refused() {
        let refusal = |text: &str| text.parse::<Quota>().unwrap_err();
        assert_eq!(refusal("20"), QuotaError::Shape);
        assert_eq!(refusal("0/1s"), QuotaError::Requests);
        assert_eq!(refusal("-1/1s"), QuotaError::Requests);
        assert!(matches!(refusal("20/soon"), QuotaError::Window(_)));
        assert_eq!(refusal("20/0s"), QuotaError::EmptyWindow);
    }
}
