//! A quota as people write it: requests per duration.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// At most `requests` in any window of length `per`.
///
/// Its text form is `20/1s`: a whole number, a slash, a duration. The text form has
/// no burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// The number of requests in one window.
    pub requests: NonZeroU32,
    /// The length of the window; more than zero.
    #[serde(with = "crate::duration")]
    pub per: Duration,
    /// The number of requests that may go at once. Further ones follow evenly, one
    /// each `per / requests`. Without a burst, all of them may go at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
}

/// Why a text is not a [`Quota`].
#[derive(Clone, Debug, PartialEq, Error)]
pub enum QuotaError {
    /// There is no slash.
    #[error("a quota is written as requests/duration, such as 20/1s")]
    Shape,
    /// The number is not a whole number from 1 to 4,294,967,295.
    #[error("a quota needs a whole number of requests, at least 1")]
    Requests,
    /// The text after the slash is not a duration.
    #[error("a quota needs a duration after the slash, such as 1s or 500ms")]
    Window(#[source] humantime::DurationError),
    /// The window is empty.
    #[error("a quota needs a window longer than zero")]
    EmptyWindow,
}

impl Quota {
    /// The mean rate, in requests per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        f64::from(self.requests.get()) / self.per.as_secs_f64()
    }

    /// The number of slots that keep this quota.
    pub(crate) fn slots(&self) -> usize {
        self.requests.get() as usize
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
        let per = humantime::format_duration(self.per);
        write!(f, "{}/{per}", self.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_parses_back_from_its_text() {
        for text in ["20/1s", "1/500ms", "100/1m"] {
            assert_eq!(text.parse::<Quota>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn zero_requests_and_empty_windows_are_rejected() {
        let refusal = |text: &str| text.parse::<Quota>().unwrap_err();
        assert_eq!(refusal("20"), QuotaError::Shape);
        assert_eq!(refusal("0/1s"), QuotaError::Requests);
        assert_eq!(refusal("-1/1s"), QuotaError::Requests);
        assert!(matches!(refusal("20/soon"), QuotaError::Window(_)));
        assert_eq!(refusal("20/0s"), QuotaError::EmptyWindow);
    }
}
