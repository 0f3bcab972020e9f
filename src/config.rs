//! Configuration.
pub mod duration;
