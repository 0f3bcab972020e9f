//! The source chain of an error, down to its root.
//!
//! `std::io::Error` and `h2::Error` wrap errors that [`StdError::source`] skips; this
//! walk visits them. As text, a chain holds nothing that upstream chose: the debug data
//! of a GOAWAY is left out.

use std::error::Error as StdError;
use std::{fmt, io, iter};

type Dyn = dyn StdError + 'static;

/// The source chain of an error, as text: `outer: inner: root`.
pub(in crate::upstream) struct Causes<'a>(pub(super) Option<&'a Dyn>);

/// The error and all that caused it, the root last.
pub(super) fn chain(error: &Dyn) -> impl Iterator<Item = &Dyn> {
    iter::successors(Some(error), |error| next(*error))
}

/// The innermost error of type `T` in the chain.
pub(super) fn find<T: StdError + 'static>(error: &Dyn) -> Option<&T> {
    chain(error).filter_map(|cause| cause.downcast_ref()).last()
}

fn next(error: &Dyn) -> Option<&Dyn> {
    if let Some(wrapped) = wrapped(error) {
        return Some(wrapped);
    }
    error.source()
}

/// The error that `error` stands for, if it only wraps one.
fn wrapped(error: &Dyn) -> Option<&Dyn> {
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return io.get_ref().map(|inner| inner as _);
    }
    let h2 = error.downcast_ref::<h2::Error>()?;
    h2.get_io().map(|io| io as _)
}

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = self.0.into_iter().flat_map(chain);
        // What a wrapper says, the wrapped error says, too.
        let told = chain.filter(|error| wrapped(*error).is_none());
        for (n, error) in told.enumerate() {
            if n > 0 {
                f.write_str(": ")?;
            }
            match error.downcast_ref::<h2::Error>() {
                Some(error) => write_http2(error, f)?,
                None => write!(f, "{error}")?,
            }
        }
        Ok(())
    }
}

fn write_http2(error: &h2::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(reason) = error.reason() else {
        // A violation of h2's API, described by a fixed text.
        return write!(f, "{error}");
    };
    let frame = if error.is_go_away() {
        "GOAWAY"
    } else {
        "RST_STREAM"
    };
    let direction = if error.is_remote() {
        "received"
    } else {
        "sent"
    };
    write!(f, "{frame} {direction}: {reason:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_errors_are_found_and_told_once() {
        let root = rustls::Error::DecryptError;
        let tls = io::Error::new(io::ErrorKind::InvalidData, root);
        let error = io::Error::other(tls);
        assert!(find::<rustls::Error>(&error).is_some());
        let innermost = find::<io::Error>(&error).unwrap();
        assert_eq!(innermost.kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            Causes(Some(&error)).to_string(),
            rustls::Error::DecryptError.to_string()
        );
    }

    #[test]
    fn an_error_without_a_cause_has_no_causes() {
        assert_eq!(Causes(None).to_string(), "");
    }
}
