//! A gateway between skill backends and the Alexa APIs.
pub mod answer;
pub mod body;
pub mod cache;
pub mod cli;
pub mod coalesce;
pub mod config;
pub mod error;
pub mod gateway;
pub mod limits;
pub mod metrics;
pub mod mock;
pub mod record;
pub mod request;
pub mod route;
pub mod token;
pub mod upstream;
