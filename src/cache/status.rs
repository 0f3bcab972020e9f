//! The `Cache-Status` header (RFC 9211): what the cache did for one request.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

/// Why a request went forward (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The cache is not asked about such requests.
    Bypass,
    /// The method is not one that is cached.
    Method,
    /// Nothing was stored.
    Miss,
    /// What was stored had become stale.
    Stale,
    /// Something fresh was stored, but the request refused it.
    Request,
}

impl Forward {
    /// The value of the parameter `fwd`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Request => "request",
        }
    }
}

/// What the cache did for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered with a stored answer, fresh for this long.
    Hit(Duration),
    /// Answered with a stored answer, stale for this long.
    HitStale(Duration),
    /// Went forward.
    Forwarded {
        /// Why.
        forward: Forward,
        /// Upstream's status, if there was an answer.
        status: Option<StatusCode>,
        /// Shared the call of another request.
        collapsed: bool,
        /// For how long the answer was stored, if it was.
        stored: Option<Duration>,
    },
    /// Did not go forward and found nothing: `only-if-cached`.
    NotCached,
}

impl CacheStatus {
    /// A forward of which nothing more is known yet.
    #[must_use]
    pub fn forwarded(forward: Forward) -> Self {
        Self::Forwarded {
            forward,
            status: None,
            collapsed: false,
            stored: None,
        }
    }

    /// One word for logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Hit(_) => "hit",
            Self::HitStale(_) => "hit_stale",
            Self::Forwarded {
                collapsed: true, ..
            } => "collapsed",
            Self::Forwarded { forward, .. } => forward.label(),
            Self::NotCached => "only_if_cached",
        }
    }

    /// The header's value.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        let mut text = String::with_capacity(USUAL_BYTES);
        text.push_str("alexa-gateway; ");
        match self {
            Self::Hit(left) => seconds(&mut text, "hit; ttl=", *left),
            // A negative ttl counts the seconds since freshness ended (§2.4).
            Self::HitStale(since) => seconds(&mut text, "hit; ttl=-", (*since).max(SECOND)),
            Self::NotCached => text.push_str("detail=only-if-cached"),
            Self::Forwarded {
                forward,
                status,
                collapsed,
                stored,
            } => {
                text.push_str("fwd=");
                text.push_str(forward.label());
                if let Some(status) = status {
                    text.push_str("; fwd-status=");
                    text.push_str(status.as_str());
                }
                if *collapsed {
                    text.push_str("; collapsed");
                }
                if let Some(ttl) = stored {
                    seconds(&mut text, "; stored; ttl=", *ttl);
                }
            }
        }
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("alexa-gateway"))
    }
}

/// Room for what most answers say.
const USUAL_BYTES: usize = 64;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(text: &mut String, before: &str, span: Duration) {
    // Writing to a string cannot fail.
    write!(text, "{before}{}", span.as_secs()).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_follows_the_registry() {
        let second = Duration::from_secs(1);
        let miss = CacheStatus::Forwarded {
            forward: Forward::Miss,
            status: Some(StatusCode::OK),
            collapsed: true,
            stored: Some(10 * second),
        };
        for (status, text) in [
            (CacheStatus::Hit(8 * second), "alexa-gateway; hit; ttl=8"),
            (
                CacheStatus::HitStale(3 * second),
                "alexa-gateway; hit; ttl=-3",
            ),
            (
                miss,
                "alexa-gateway; fwd=miss; fwd-status=200; collapsed; stored; ttl=10",
            ),
            (
                CacheStatus::forwarded(Forward::Bypass),
                "alexa-gateway; fwd=bypass",
            ),
            (
                CacheStatus::NotCached,
                "alexa-gateway; detail=only-if-cached",
            ),
        ] {
            assert_eq!(status.header(), text);
        }
    }
}
