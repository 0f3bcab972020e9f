//! The `Cache-Status` header (RFC 9211): how the cache handled one request.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

/// Why a request went forward (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The cache does not handle such requests.
    Bypass,
    /// Responses to this method are not cached.
    Method,
    /// Nothing was stored.
    Miss,
    /// The stored response was stale.
    Stale,
    /// The request did not accept the stored response.
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

/// How the cache handled one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// A stored response was served, which stays fresh for this long.
    Hit(Duration),
    /// A stored response was served, which has been stale for this long.
    HitStale(Duration),
    /// The request went forward.
    Forwarded {
        /// Why.
        forward: Forward,
        /// Upstream's status, if it responded.
        status: Option<StatusCode>,
        /// The request shared the call of another one.
        collapsed: bool,
        /// How long the response stays fresh, if it was stored.
        stored: Option<Duration>,
    },
    /// `only-if-cached`, and nothing stored was usable.
    NotCached,
}

impl CacheStatus {
    /// A request that goes forward, before its outcome is known.
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
            // A negative ttl is the time since the response became stale (RFC 9211 §2.4).
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

/// Enough for nearly all values.
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
