//! The command lines of the laboratory: one file per subcommand.

pub mod demo;
mod figures;
pub mod mock;
pub mod simulate;
pub mod token;
