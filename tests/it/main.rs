//! What a user can observe, through the front door: a gateway on real sockets
//! between a client and a fake Alexa. One file per behaviour.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails the test")]

mod support;

mod admin;
mod breaker;
mod caching;
mod coalescing;
mod command;
mod failures;
mod house;
mod isolation;
mod passthrough;
mod promises;
mod quotas;
mod reload;
mod routing;
mod sdk;
mod sidecar;
mod simulate;
mod sockets;
mod tls;
