//! Where the server listens, and how it treats connections.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use serde::Serialize;

use super::timeouts::Timeouts;
use crate::region::Region;

/// Validated values; only a restart changes them.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The addresses for skills, at least one.
    pub listeners: Vec<ListenAddress>,
    /// How many connections may be open, over all listeners.
    pub max_connections: NonZeroUsize,
    /// How long each phase of a connection may take.
    pub timeouts: Timeouts,
}

/// One address to listen on; an item of `server.listeners` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ListenAddress {
    /// The address; port 0 picks a free port.
    pub address: SocketAddr,
    /// The region of requests that name none themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}
