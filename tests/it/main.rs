//! What a user can observe, through the front door: a gateway on real sockets
//! between a client and a fake Alexa. One file per behaviour.

mod support;

mod admin;
mod caching;
mod coalescing;
mod command;
mod failures;
mod isolation;
mod passthrough;
mod quotas;
mod reload;
mod routing;
mod sdk;
mod sockets;
mod tls;
