//! Time limits for the connections of one listener.

use std::time::Duration;

/// How long each phase of a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To receive a complete request head. For the first request the time starts when
    /// the connection is accepted; for a later one, at the first byte of its head.
    pub request_head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// While the client accepts no bytes of a response.
    pub write: Duration,
    /// From a stop until what is left is closed.
    pub drain: Duration,
}

/// How long a connection that is being closed may take to send its last bytes.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
