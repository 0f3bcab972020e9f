//! Routing: which Alexa region gets a request, under which rule and path.
//!
//! [`RouteTable::route`] takes the [`Evidence`] of a request and returns a [`Route`], or
//! the reason for refusing it. Host names in a request are only *compared* with the
//! table. The host to connect to, and the names in `Host` and SNI, come from
//! [`RouteTable::upstream`]. So no request can direct a bearer token to another host.
//!
//! Pure: no I/O, no clock.

mod decision;
mod evidence;
pub mod path;
mod rule;
mod table;
#[cfg(test)]
mod tests;
mod upstream_url;

pub use decision::{Route, RouteError};
pub use evidence::{Decider, Evidence};
pub use rule::Rule;
pub use table::RouteTable;
pub use upstream_url::UpstreamUrl;
