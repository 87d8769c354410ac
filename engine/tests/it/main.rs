//! A real host over loopback: what it reads, lists, tells and refuses.

#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
mod command;
mod files;
mod listing;
mod rig;
mod tickets;
