//! Sessions end to end: over real loopback, and over the seeded link on a paused clock.

// The name under which the other crates know it.
extern crate wormhole_transport as transport;

mod admission;
mod cancel;
mod host;
mod link;
mod loopback;
mod packets;
mod restart;
mod stranger;
