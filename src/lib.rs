//! A gateway between skill backends and the Alexa APIs.
pub mod cli;
pub mod limits;
pub mod route;
