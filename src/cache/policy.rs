//! The caching rules of RFC 9111, as pure functions: no clock, no I/O, no table.
//!
//! The gateway is a private cache for each credential (RFC 9111 §1): a response is only
//! ever reused for the token that fetched it, so `private` and `Authorization` do not
//! forbid storing it.

mod directives;
mod freshness;
mod reuse;
mod storable;

pub use directives::RequestDirectives;
pub use freshness::{Freshness, Lifetime};
pub use reuse::{Decision, FetchMode, Judged, Reuse, decide, judge, permits_stale};
pub use storable::{NoStore, storable};
