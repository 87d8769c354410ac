//! The command line of `wormhole-engine`: what was typed, and how it becomes a [`crate::config::HostConfig`].
//!
//! Each command has a file with its options and what they mean; [`main`] parses, runs the command, and says how it
//! went. [`size`] reads the units that both binaries take.

use clap::{Parser, Subcommand};

mod host;
mod run;
pub mod size;

pub use host::{CliError, HostArgs};
pub use run::main;

/// Serves folders to other machines, read-only, over QUIC.
#[derive(Debug, Parser)]
#[command(name = "wormhole-engine", version, about, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `wormhole-engine` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve folders until stopped (SIGTERM or ctrl-C)
    #[command(after_help = host::EXAMPLES)]
    Host(HostArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
