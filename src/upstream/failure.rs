//! Why a call to upstream failed.
//!
//! A failure is classified once, where it is first seen, by the types of the errors in
//! its source chain, never by their text. It keeps that chain, down to the error of the
//! operating system, of TLS or of HTTP/2, for logs. Clients see its kind, its error type
//! (RFC 9209) and a fixed text.

mod causes;
#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::sync::Arc;
use std::{fmt, io};

use h2::Reason;
use rustls::CertificateError;
use tokio::time::error::Elapsed;

use super::resolver::ResolveError;
use crate::body::BoxError;
use crate::error::{Cause, Error, ErrorType, Kind};
use crate::region::Region;
pub(super) use causes::Causes;
use causes::find;

/// One failure. Cheap to clone: all calls that waited for one connection share it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: Kind,
    error_type: ErrorType,
    details: &'static str,
    cause: Option<Cause>,
}

/// How far a call had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// No response head was received.
    AwaitingHead,
    /// The head was received, and part of the body perhaps.
    ReadingBody,
}

impl Failure {
    /// No connection could be opened.
    pub(super) fn connecting(error: BoxError) -> Self {
        Self::no_connection(&*error).caused_by(error)
    }

    /// The host name was not resolved in time.
    pub(super) fn resolve_timeout(elapsed: Elapsed) -> Self {
        Self::new(Kind::ConnectTimeout, ErrorType::DnsTimeout).caused_by(elapsed)
    }

    /// The connection was not open in time.
    pub(super) fn connect_timeout(elapsed: Elapsed) -> Self {
        Self::new(Kind::ConnectTimeout, ErrorType::ConnectionTimeout).caused_by(elapsed)
    }

    /// The connection failed before the head of a response was received.
    pub(super) fn awaiting_head(error: hyper::Error) -> Self {
        Self::lost(Progress::AwaitingHead, &error).caused_by(error)
    }

    /// The connection failed before the body of a response was complete.
    pub(super) fn reading_body(error: BoxError) -> Self {
        Self::lost(Progress::ReadingBody, &*error).caused_by(error)
    }

    /// The kind, for metrics and the verdict.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is certain that nothing was sent: there was no connection.
    pub(super) fn is_unsent(&self) -> bool {
        matches!(
            self.kind,
            Kind::Dns | Kind::Connect | Kind::ConnectTimeout | Kind::Tls
        )
    }

    pub(super) fn error_type(&self) -> ErrorType {
        self.error_type
    }

    /// The source chain as text, for logs.
    pub(super) fn causes(&self) -> Causes<'_> {
        Causes(self.source())
    }

    /// The error that a client sees.
    pub(super) fn into_error(self, region: Region) -> Error {
        Error::new(self.kind, format!("upstream {region}: {self}"))
            .caused_by(self.error_type, self.cause)
    }

    fn new(kind: Kind, error_type: ErrorType) -> Self {
        Self {
            kind,
            error_type,
            details: details(error_type),
            cause: None,
        }
    }

    fn caused_by(mut self, error: impl Into<BoxError>) -> Self {
        self.cause = Some(Arc::from(error.into()));
        self
    }

    fn no_connection(error: &(dyn StdError + 'static)) -> Self {
        use io::ErrorKind as Io;
        if find::<ResolveError>(error).is_some() {
            return Self::new(Kind::Dns, ErrorType::DnsError);
        }
        if let Some(error) = find(error) {
            return Self::tls(Kind::Tls, error);
        }
        let (kind, error_type) = match find(error).map(io::Error::kind) {
            Some(Io::ConnectionRefused) => (Kind::Connect, ErrorType::ConnectionRefused),
            Some(Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown) => {
                (Kind::Connect, ErrorType::DestinationIpUnroutable)
            }
            Some(Io::TimedOut) => (Kind::ConnectTimeout, ErrorType::ConnectionTimeout),
            Some(
                Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe | Io::UnexpectedEof,
            ) => (Kind::Connect, ErrorType::ConnectionTerminated),
            _ => (Kind::Connect, ErrorType::DestinationUnavailable),
        };
        Self::new(kind, error_type)
    }

    fn tls(kind: Kind, error: &rustls::Error) -> Self {
        use rustls::Error as Tls;
        match error {
            Tls::InvalidCertificate(problem) => Self {
                details: certificate_problem(problem),
                ..Self::new(kind, ErrorType::TlsCertificateError)
            },
            Tls::NoCertificatesPresented | Tls::InvalidCertRevocationList(_) => {
                Self::new(kind, ErrorType::TlsCertificateError)
            }
            Tls::AlertReceived(alert) => Self::new(kind, ErrorType::TlsAlertReceived(*alert)),
            _ => Self::new(kind, ErrorType::TlsProtocolError),
        }
    }

    fn lost(progress: Progress, error: &(dyn StdError + 'static)) -> Self {
        use io::ErrorKind as Io;
        if let Some(error) = find(error) {
            return Self::tls(Kind::AnswerLost, error);
        }
        if let Some(error) = find(error) {
            return Self::new(Kind::AnswerLost, http2(error));
        }
        let hyper = find::<hyper::Error>(error);
        let error_type = match (find(error).map(io::Error::kind), progress) {
            _ if hyper.is_some_and(hyper::Error::is_timeout) => ErrorType::ConnectionReadTimeout,
            _ if hyper.is_some_and(hyper::Error::is_parse) => ErrorType::HttpProtocolError,
            (Some(Io::TimedOut), _) => ErrorType::ConnectionReadTimeout,
            // hyper's decoder of chunks.
            (Some(Io::InvalidData | Io::InvalidInput), Progress::ReadingBody) => {
                ErrorType::HttpResponseTransferCoding
            }
            (_, Progress::ReadingBody) => ErrorType::HttpResponseIncomplete,
            (_, Progress::AwaitingHead) => ErrorType::ConnectionTerminated,
        };
        Self::new(Kind::AnswerLost, error_type)
    }
}

/// What an HTTP/2 error means. RFC 9209 has no type for a stream that is reset.
fn http2(error: &h2::Error) -> ErrorType {
    match error.reason() {
        _ if error.is_library() => ErrorType::HttpProtocolError,
        _ if error.is_go_away() => ErrorType::ConnectionTerminated,
        Some(
            Reason::PROTOCOL_ERROR
            | Reason::FLOW_CONTROL_ERROR
            | Reason::FRAME_SIZE_ERROR
            | Reason::COMPRESSION_ERROR
            | Reason::STREAM_CLOSED,
        ) => ErrorType::HttpProtocolError,
        _ => ErrorType::HttpResponseIncomplete,
    }
}

/// What a client is told.
fn details(error_type: ErrorType) -> &'static str {
    match error_type {
        ErrorType::DnsError => "host name not resolved",
        ErrorType::DnsTimeout => "host name not resolved in time",
        ErrorType::DestinationUnavailable => "no connection",
        ErrorType::DestinationIpUnroutable => "no route to the host",
        ErrorType::ConnectionRefused => "connection refused",
        ErrorType::ConnectionTerminated => "connection closed without a response",
        ErrorType::ConnectionTimeout => "no connection in time",
        ErrorType::ConnectionReadTimeout => "connection went silent",
        ErrorType::TlsProtocolError => "TLS protocol error",
        ErrorType::TlsCertificateError => "certificate not valid",
        ErrorType::TlsAlertReceived(_) => "TLS alert received",
        ErrorType::HttpResponseIncomplete => "response cut off",
        ErrorType::HttpResponseBodySize => "response larger than upstream.max_answer_bytes",
        ErrorType::HttpResponseTransferCoding => "malformed response body",
        ErrorType::HttpResponseTimeout => "no complete response in time",
        ErrorType::HttpProtocolError => "malformed response",
        ErrorType::HttpRequestError
        | ErrorType::ProxyInternalResponse
        | ErrorType::ProxyInternalError => "call failed",
    }
}

fn certificate_problem(problem: &CertificateError) -> &'static str {
    use CertificateError as C;
    match problem {
        C::Expired | C::ExpiredContext { .. } => "certificate expired",
        C::NotValidYet | C::NotValidYetContext { .. } => "certificate not valid yet",
        C::NotValidForName | C::NotValidForNameContext { .. } => "certificate for another name",
        C::UnknownIssuer => "certificate from an unknown authority",
        C::Revoked => "certificate revoked",
        _ => "certificate not valid",
    }
}

/// A failure without a cause: a limit of the gateway, or one that a model makes up.
impl From<Kind> for Failure {
    fn from(kind: Kind) -> Self {
        Self::new(kind, kind.error_type())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.details)
    }
}

// By hand: thiserror would give the `Arc` as the source, which hides the cause's type.
impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
