//! What a configuration would do to a day's traffic, before it meets any.
//!
//! A [`Trace`] of requests runs through the real pipeline, [`Gateway`], on paused
//! time and in this thread alone; only the network is a model ([`Alexa`]). One
//! hour of traffic takes about as long as the machine needs to compute it, and
//! the same seed gives the same [`Report`].
//!
//! | part | what it is |
//! |---|---|
//! | [`trace`] | who asks what, and when: drawn from a seed, or given |
//! | [`log`] | a trace out of the log lines of `serve` |
//! | [`upstream`] | the modelled Alexa: latency, quotas, faults, outages |
//! | [`play`] | runs a trace through a gateway |
//! | [`report`] | what came of it, in all or between two moments |
//! | [`plot`] | the same as a picture |
//!
//! Time moves in whole milliseconds, as tokio's timers do. What the gateway
//! itself computes takes no time here, so a hit takes none.
//!
//! [`Gateway`]: crate::gateway::Gateway

mod book;
pub mod log;
pub mod play;
pub mod plot;
pub mod report;
mod token;
pub mod trace;
pub mod upstream;

pub use play::{PlayError, Scenario};
pub use report::Report;
pub use trace::Trace;
pub use upstream::Alexa;
