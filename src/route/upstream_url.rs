//! The base URL of a region's upstream.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// A scheme, an authority, and a path prefix. The prefix is empty unless the upstream
/// is another gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    scheme: Scheme,
    authority: Authority,
    prefix: String,
}

impl UpstreamUrl {
    /// Parses an upstream such as `https://api.eu.amazonalexa.com`.
    ///
    /// # Errors
    /// A message for the configuration's author.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| format!("'{text}' is not a URL"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("must be a URL such as https://api.amazonalexa.com".into());
        };
        if scheme != Scheme::HTTPS && scheme != Scheme::HTTP {
            return Err("the scheme must be https or http".into());
        }
        if authority.as_str().contains('@') {
            return Err("must not contain a user name or password".into());
        }
        let target = parts
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        if target.query().is_some() {
            return Err("must not contain a query".into());
        }
        let prefix = target.path().trim_end_matches('/').to_owned();
        Ok(Self {
            scheme,
            authority,
            prefix,
        })
    }

    /// The default upstream of a region: its host, by https.
    #[must_use]
    pub fn of_host(host: &'static str) -> Self {
        let (scheme, authority) = (Scheme::HTTPS, Authority::from_static(host));
        Self {
            scheme,
            authority,
            prefix: String::new(),
        }
    }

    /// The host, with the port if one is given.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Whether calls leave this machine unencrypted.
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
    /// Prefix and target together are not a valid path.
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
    fn malformed_upstreams_are_refused() {
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
    fn clear_text_is_detected_unless_it_stays_on_this_host() {
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
