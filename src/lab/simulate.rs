//! What a configuration would do to real traffic, computed in advance.
//!
//! A [`Trace`] of requests runs through the real pipeline, [`Gateway`], on paused time
//! and in one thread; only the network is replaced by a model ([`Alexa`]). An hour of
//! traffic takes as long as the machine needs to compute it, and the same seed gives the
//! same [`Report`].
//!
//! | part | job |
//! |---|---|
//! | [`trace`] | the requests: drawn from a seed, or given |
//! | [`log`] | a trace from the log of `serve` |
//! | [`upstream`] | the modelled Alexa: latency, quotas, faults, outages |
//! | [`play`] | plays a trace through a gateway |
//! | [`report`], [`figures`] | the result, and the figures computed from it |
//! | [`plot`] | the result as a picture |
//!
//! Time moves in whole milliseconds, as tokio's timers do. Computing takes no time
//! here: the latency of a hit is zero.
//!
//! [`Gateway`]: crate::gateway::Gateway

pub mod figures;
pub mod log;
pub mod play;
pub mod plot;
mod recorder;
pub mod report;
mod requests;
mod token;
pub mod trace;
pub mod upstream;

pub use play::{PlayError, Scenario};
pub use report::Report;
pub use trace::Trace;
pub use upstream::Alexa;
