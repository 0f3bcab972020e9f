//! `[server]` and `[admin]`: the listeners.

use std::net::SocketAddr;

use crate::admin;
use crate::config::check::Check;
use crate::config::file::ConfigFile;
use crate::server::{self, Timeouts};

pub(in crate::config) fn server(check: &mut Check, file: &ConfigFile) -> server::Policy {
    let server = &file.server;
    check.ensure(
        !server.listeners.is_empty(),
        "server.listeners",
        "needs at least one address",
    );
    check.ensure(
        are_distinct(&addresses(file)),
        "server.listeners",
        "an address is listed twice, or is also admin.address",
    );
    server::Policy {
        listeners: server.listeners.clone(),
        max_connections: server.max_connections,
        timeouts: Timeouts {
            request_head: check.timeout("server.request_head_timeout", server.request_head_timeout),
            idle: check.timeout("server.idle_timeout", server.idle_timeout),
            write: file.passthrough.body_idle_timeout,
            drain: check.duration("server.drain_timeout", server.drain_timeout),
        },
    }
}

pub(in crate::config) fn admin(file: &ConfigFile) -> admin::Policy {
    admin::Policy {
        address: file.admin.enabled.then_some(file.admin.address),
    }
}

/// Every address that is to be listened on.
fn addresses(file: &ConfigFile) -> Vec<SocketAddr> {
    let listeners = file.server.listeners.iter().map(|l| l.address);
    listeners.chain(admin(file).address).collect()
}

/// Whether no address occurs twice. With port 0, each gets a port of its own.
fn are_distinct(addresses: &[SocketAddr]) -> bool {
    addresses
        .iter()
        .enumerate()
        .all(|(n, address)| address.port() == 0 || !addresses[..n].contains(address))
}
