//! The mount: a share of a host as a FUSE file system, with read-ahead and a memory cache.
//!
//! A read goes from [`adapter`] (fuser's threads: decode, reply) through [`vfs`] (nodes, handles, versions; knows
//! nothing of FUSE) to [`read`] (L1, single flight, the host). [`mount`] puts them together and takes them apart.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod bdi;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod control;
pub mod errno;
pub mod error;
pub mod guard;
pub mod holders;
pub mod keeper;
pub mod metrics;
pub mod mount;
pub mod mountinfo;
pub mod mountpoint;
pub mod read;
pub mod readahead;
pub mod snapshot;
pub mod stages;
pub mod stats;
pub mod status;
pub mod unmount;
pub mod vfs;

pub use config::MountConfig;
pub use mount::Mounted;
