//! The `Proxy-Status` field of a response that the gateway generates (RFC 9209).
//!
//! `error` is a standard error type, `details` plain text. Neither holds text that
//! upstream sent.

use std::fmt::Write as _;

use http::HeaderValue;
use rustls::AlertDescription;

/// The error types of RFC 9209 §2.3 that the gateway uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorType {
    /// The host name could not be resolved.
    DnsError,
    /// The host name could not be resolved in time.
    DnsTimeout,
    /// No connection, or none attempted because recent calls failed.
    DestinationUnavailable,
    /// No route to the address.
    DestinationIpUnroutable,
    /// The connection was refused.
    ConnectionRefused,
    /// The connection was closed before the response.
    ConnectionTerminated,
    /// The connection could not be opened in time.
    ConnectionTimeout,
    /// An open connection went silent.
    ConnectionReadTimeout,
    /// TLS failed, in the handshake or later.
    TlsProtocolError,
    /// The certificate could not be verified.
    TlsCertificateError,
    /// Upstream sent a TLS alert.
    TlsAlertReceived(AlertDescription),
    /// The request is at fault.
    HttpRequestError,
    /// The response was cut off.
    HttpResponseIncomplete,
    /// The response body is too large.
    HttpResponseBodySize,
    /// The transfer coding of the response is invalid.
    HttpResponseTransferCoding,
    /// The response was not complete in time.
    HttpResponseTimeout,
    /// Upstream violated HTTP in another way.
    HttpProtocolError,
    /// The gateway answered without calling upstream.
    ProxyInternalResponse,
    /// The gateway is at fault.
    ProxyInternalError,
}

impl ErrorType {
    /// The name that RFC 9209 registers.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The field value that names this type, with `details` reduced to what a
    /// structured string may hold (RFC 8941 §3.3.3).
    pub(super) fn header(self, details: &str) -> HeaderValue {
        let mut value = format!("alexa-gateway; error={}; details=\"", self.name());
        let is_allowed = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
        value.extend(details.chars().filter(is_allowed));
        value.push('"');
        if let Self::TlsAlertReceived(alert) = self {
            let _ = write!(value, "; alert-id={}", u8::from(alert));
            if let Some(name) = alert_message(alert) {
                let _ = write!(value, "; alert-message={name}");
            }
        }
        HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("alexa-gateway"))
    }
}

/// The name of an alert in IANA's registry of TLS alerts.
fn alert_message(alert: AlertDescription) -> Option<String> {
    if alert == AlertDescription::UnrecognisedName {
        return Some("unrecognized_name".to_owned());
    }
    // rustls spells the other names in camel case.
    let mut name = String::new();
    let mut after_lowercase = false;
    for letter in alert.as_str()?.chars() {
        if letter.is_ascii_uppercase() && after_lowercase {
            name.push('_');
        }
        after_lowercase = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_a_structured_string_for_any_text() {
        let header = ErrorType::HttpRequestError.header("a \"quote\" \\ and é\n");
        assert_eq!(
            header,
            "alexa-gateway; error=http_request_error; details=\"a quote  and \""
        );
    }

    #[test]
    fn an_alert_is_named_as_in_the_registry() {
        for (alert, expected) in [
            (
                AlertDescription::HandshakeFailure,
                "40; alert-message=handshake_failure",
            ),
            (AlertDescription::UnknownCA, "48; alert-message=unknown_ca"),
            (
                AlertDescription::UnrecognisedName,
                "112; alert-message=unrecognized_name",
            ),
            (AlertDescription::Unknown(99), "99"),
        ] {
            let header = ErrorType::TlsAlertReceived(alert).header("x");
            let start = "alexa-gateway; error=tls_alert_received; details=\"x\"; alert-id=";
            assert_eq!(header, format!("{start}{expected}"));
        }
    }
}
