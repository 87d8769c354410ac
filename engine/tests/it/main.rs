//! A real host over loopback: what it reads, lists, tells and refuses.

#![forbid(unsafe_code)]
// The parts of a test that are no `#[test]` themselves: clippy.toml's exception does not see them.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "cli")]
mod attack;
mod batch;
#[cfg(feature = "cli")]
mod command;
mod control;
#[cfg(feature = "cli")]
mod crowd;
#[cfg(feature = "cli")]
mod death;
mod doors;
mod escape;
#[cfg(feature = "cli")]
mod fallback;
mod files;
#[cfg(feature = "cli")]
mod hostile;
mod l2;
mod lease_cost;
mod leases;
mod life;
mod listing;
#[cfg(feature = "cli")]
mod manager;
mod mounts;
#[cfg(feature = "cli")]
mod options;
mod patterns;
#[cfg(feature = "cli")]
mod process;
#[cfg(feature = "cli")]
mod profile;
#[cfg(feature = "cli")]
mod readers;
#[cfg(feature = "cli")]
mod refusals;
mod rig;
#[cfg(feature = "cli")]
mod ticket_command;
mod tickets;
