//! Where a connection leads: scheme and authority (RFC 9110 §4.3.1).

use http::HeaderValue;
use http::uri::{Authority, Scheme, Uri};

/// The origin of an absolute URI. A relative one has none, and cannot be connected to.
#[derive(Debug)]
pub(super) struct Origin {
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    host: HeaderValue,
}

impl Origin {
    pub(super) fn of(uri: &Uri) -> Self {
        Self {
            scheme: uri.scheme().cloned(),
            authority: uri.authority().cloned(),
            host: host(uri),
        }
    }

    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        self.scheme.as_ref() == uri.scheme() && self.authority.as_ref() == uri.authority()
    }

    pub(super) fn is_https(&self) -> bool {
        self.scheme.as_ref() == Some(&Scheme::HTTPS)
    }

    /// The value of `Host`.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }
}

/// The authority of a URI, without the default port of its scheme (RFC 9110 §4.2.3).
fn host(uri: &Uri) -> HeaderValue {
    let is_https = uri.scheme() == Some(&Scheme::HTTPS);
    let default_port = if is_https { 443 } else { 80 };
    let host = match (uri.authority(), uri.port_u16()) {
        (Some(authority), Some(port)) if port != default_port => authority.as_str(),
        _ => uri.host().unwrap_or_default(),
    };
    HeaderValue::try_from(host).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_port_is_left_out_of_host() {
        for (uri, host) in [
            ("https://api.amazonalexa.com/v2", "api.amazonalexa.com"),
            ("https://localhost:443/", "localhost"),
            ("http://localhost:443/", "localhost:443"),
            ("http://[::1]:80/", "[::1]"),
        ] {
            assert_eq!(Origin::of(&uri.parse().unwrap()).host(), host);
        }
    }

    #[test]
    fn scheme_and_authority_make_the_origin() {
        let origin = Origin::of(&Uri::from_static("https://localhost/a"));
        assert!(origin.is_of(&Uri::from_static("https://localhost/b?c")));
        for other in ["http://localhost/a", "https://localhost:8443/a", "/a"] {
            assert!(!origin.is_of(&Uri::from_static(other)), "{other}");
        }
    }
}
