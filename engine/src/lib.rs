//! The storage engine: the host that serves folders, and the caches of a mount.
//!
//! [`host::Host`] owns everything that serves. A request comes in through `service`, is scoped to what its ticket opens
//! (`share`), finds its file (`disk`) and is answered by `read`, `list`, `verify` or `inspect`. Nothing of it waits for
//! a disk on the network's thread: that happens on the ring, or on the bounded threads of `work`.
//!
//! [`cache`] is the other half, for mounts.

#![forbid(unsafe_code)]

mod advertise;
mod attr;
mod batch;
pub mod cache;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod control;
mod disk;
pub mod error;
mod files;
pub mod host;
mod inspect;
mod list;
mod metrics;
mod read;
mod service;
mod share;
pub mod stages;
pub mod state;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tickets;
mod turns;
mod verify;
mod watch;
mod work;
