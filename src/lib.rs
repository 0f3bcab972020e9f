//! A gateway between skill backends and the Alexa APIs.
pub mod cache;
pub mod cli;
pub mod coalesce;
pub mod config;
pub mod error;
pub mod limits;
pub mod route;
pub mod token;
