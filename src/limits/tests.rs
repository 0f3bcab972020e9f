//! Tests of the room as a whole: what a caller observes, all on paused time.

mod admission;
mod contention;
mod hidden;
mod learning;
mod proofs;
mod reload;
mod sharing;
mod support;
mod tenants;
