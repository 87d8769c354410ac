//! The command line of `wormhole-engine`: what was typed, and how it becomes a [`crate::config::HostConfig`].
//!
//! Each command has a file with its options and what they mean; [`main`] parses, runs the command, and says how it
//! went. An option is read in the same words wherever it is given: [`units`] and [`text`] check it, [`mod@file`] and
//! [`failure`] say where it was wrong. What both binaries need is public: these four, [`log`], [`keylog`], [`endpoint`],
//! [`profile`], [`topics`] and [`pages`].

use clap::{Parser, Subcommand};

pub mod endpoint;
pub mod failure;
pub mod file;
mod help;
mod host;
pub mod keylog;
mod limits;
pub mod log;
pub mod pages;
pub mod profile;
mod run;
mod status;
mod table;
pub mod text;
mod ticket;
pub mod topics;
pub mod units;

pub use host::{CliError, HostArgs, HostOptions, HostRun, ShareName};
pub use limits::LimitOptions;
pub use run::main;
pub use status::StatusArgs;
pub use ticket::{ListArgs, NewArgs, RevokeArgs, StateArg, TicketArgs, TicketCommand};

/// Serves folders to other machines, read-only, over QUIC.
#[derive(Debug, Parser)]
#[command(
    name = "wormhole-engine",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = topics::pointer("wormhole-engine"),
    after_long_help = topics::list("wormhole-engine", &help::TOPICS)
)]
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
    Host(Box<HostArgs>),
    /// Make, list and revoke tickets: who may read what
    #[command(after_help = ticket::EXAMPLES)]
    Ticket(TicketArgs),
    /// Show how a running host stands: shares, mounts, limits and their use
    #[command(after_help = status::EXAMPLES)]
    Status(StatusArgs),
    /// Explain a command or a topic; `help topics` lists them
    Help(topics::HelpArgs),
    /// Print what a shell needs to complete these commands
    #[command(after_help = pages::COMPLETIONS_EXAMPLES)]
    Completions(pages::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands and topics
    Man(pages::ManArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
