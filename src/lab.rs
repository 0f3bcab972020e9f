//! The laboratory: for trying and testing, no part of what serves skills.
//!
//! Behind the cargo feature `lab`, which is on by default. A build without default
//! features has none of it.
//!
//! | room | job |
//! |---|---|
//! | [`mock`] | a scriptable Alexa in three regions, on loopback |
//! | [`demo`] | a morning spike, straight to the mock and through the gateway |
//! | [`simulate`] | hours of traffic through the pipeline in seconds, on paused time |
//! | [`window`] | how Alexa counts requests against a quota, for all of these |
//! | [`cli`] | the command lines of these |

pub mod cli;
pub mod demo;
pub mod mock;
pub mod names;
pub mod simulate;
pub mod window;
