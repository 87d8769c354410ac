//! Sessions end to end: over real loopback, and over the seeded link on a paused clock.

#![allow(clippy::unwrap_used, reason = "all of this binary is a test, its helpers too")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "seeds and skips are said aloud")]
#![allow(clippy::cast_possible_truncation, reason = "the pattern is made of low bytes")]

// The name under which the other crates know it.
extern crate wormhole_transport as transport;

mod admission;
mod bounds;
mod cancel;
mod files;
mod host;
mod hostile;
mod limits;
mod link;
mod loopback;
mod packets;
mod pushes;
mod restart;
mod stranger;
mod wan;
