//! Tests of the room as a whole: what a caller observes, all on paused time.

mod admission;
#[cfg(feature = "lab")]
mod contention;
#[cfg(feature = "lab")]
mod hidden;
mod learning;
#[cfg(feature = "lab")]
mod proofs;
mod reload;
mod sharing;
mod support;
mod tenants;
