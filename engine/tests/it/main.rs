//! A real host over loopback: what it reads, lists, tells and refuses.

#![forbid(unsafe_code)]
// The parts of a test that are no `#[test]` themselves: clippy.toml's exception does not see them.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "cli")]
mod command;
mod files;
mod life;
mod listing;
mod mounts;
mod rig;
mod tickets;
