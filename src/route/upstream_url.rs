//! The URL of a region's upstream.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// Where a region's calls go: a scheme, an authority, and a path prefix that is
/// empty unless another gateway is the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
}

impl UpstreamUrl {
    /// Reads an upstream such as `https://api.eu.amazonalexa.com`.
    ///
    /// # Errors
    /// Says in words what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| format!("'{text}' is not a URL"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("an upstream is a URL such as https://api.amazonalexa.com".into());
        };
        if scheme != Scheme::HTTPS && scheme != Scheme::HTTP {
            return Err("an upstream's scheme is https or http".into());
        }
        if authority.as_str().contains('@') {
            return Err("an upstream has no user name or password".into());
        }
        let target = parts
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        if target.query().is_some() {
            return Err("an upstream has no query".into());
        }
        let prefix = target.path().trim_end_matches('/').to_owned();
        Ok(Self {
            scheme,
            authority,
            prefix,
        })
    }

    /// `https://` and the host of a region.
    #[must_use]
    pub fn of_host(host: &'static str) -> Self {
        let (scheme, authority) = (Scheme::HTTPS, Authority::from_static(host));
        Self {
            scheme,
            authority,
            prefix: String::new(),
        }
    }

    /// The host, and the port if it is not the scheme's own.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Whether calls leave this host unencrypted.
    #[must_use]
    pub fn is_clear_text_off_host(&self) -> bool {
        let host = self.authority.host().trim_matches(['[', ']']);
        let is_loopback = |ip: IpAddr| ip.is_loopback();
        let local = host == "localhost" || host.parse().is_ok_and(is_loopback);
        self.scheme == Scheme::HTTP && !local
    }

    /// The URL of `target` at this upstream.
    ///
    /// # Errors
    /// The prefix and the target together are no valid path.
    pub fn join(&self, target: &PathAndQuery) -> Result<Uri, http::Error> {
        let target = if self.prefix.is_empty() {
            target.clone()
        } else {
            PathAndQuery::try_from(format!("{}{target}", self.prefix))?
        };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(target)
            .build()
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_that_make_no_sense_are_refused() {
        for text in [
            "",
            "api.amazonalexa.com",
            "ftp://a",
            "https://u:p@a",
            "https://a?b",
        ] {
            assert!(UpstreamUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_in_the_clear_are_noticed_unless_they_stay_on_this_host() {
        for (text, noticed) in [
            ("http://10.0.0.1:2780", true),
            ("http://gateway.internal", true),
            ("https://gateway.internal", false),
            ("http://127.0.0.1:9101", false),
            ("http://[::1]:9101", false),
            ("http://localhost:9101", false),
        ] {
            let upstream = UpstreamUrl::parse(text).unwrap();
            assert_eq!(upstream.is_clear_text_off_host(), noticed, "{text}");
        }
    }
}
