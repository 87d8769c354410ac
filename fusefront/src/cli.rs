//! The command line of `wormhole`: what was typed becomes a [`crate::MountConfig`], and errors become one line for people.

mod args;
mod cache;
mod daemon;
mod help;
mod mount_8;
mod options;
mod resolve;
mod run;
mod watch;

pub use run::main;
