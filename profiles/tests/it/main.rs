//! Links between real sockets.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod udp;
