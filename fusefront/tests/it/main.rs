//! Real mounts: a host in this process, `wormhole mount` as a process of its own, the kernel in between.

#![cfg(feature = "cli")]
#![forbid(unsafe_code)]
// The parts of a test that are no `#[test]` themselves: clippy.toml's exception does not see them.
#![allow(clippy::unwrap_used)]

mod cache_command;
mod changes;
mod command;
mod disk;
mod failure;
mod hostile;
mod large_cache;
mod leases;
mod life;
mod logs;
mod offline;
mod options;
mod packets;
mod process;
mod profile;
mod reads;
mod rig;
mod scan;
mod semantics;
mod tree;
mod walks;
mod watch;
