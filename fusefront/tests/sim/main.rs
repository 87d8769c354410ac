//! The whole of Wormhole in one process on a paused clock: host, link, disk, mount and a reference model, driven at
//! random from one seed.
//!
//! Programs on the mount look up, open, read and list while the host's files are written, renamed and removed, the
//! link is cut, the disk fails and the host restarts. Each answer is held against the model, which knows every version
//! of every file. `WORMHOLE_SIM_SEEDS=n` runs n seeds, `WORMHOLE_SIM_SEED=n` that one alone, and `WORMHOLE_SIM_TRACE=1`
//! tells every step of it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this binary is a test, its parts too")]
#![allow(clippy::cast_possible_truncation, reason = "files of a few MiB, in 64 bits")]
#![forbid(unsafe_code)]

mod check;
mod clock;
mod faults;
mod kernel;
mod listing;
mod program;
mod rig;
mod rng;
mod seeds;

mod wan;
mod world;
mod writer;
