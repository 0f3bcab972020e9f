//! A morning spike, played without and with the gateway.
//!
//! A [`Stage`] runs a mock of Alexa that enforces a quota per skill, and a gateway in
//! front of it that knows the quota, on loopback in this process. The same [`schedule`]
//! is played straight to the mock and through the gateway. Every figure of a [`DemoRun`]
//! is counted, none is computed from assumptions.

pub mod caller;
pub mod play;
pub mod schedule;
pub mod stage;

pub use self::caller::CallerStats;
pub use self::stage::{DemoRun, JITTER, LATENCY, QUOTA, Stage, StageError};
