//! Integration tests of wormhole-wire.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod errors;
mod garbage;
mod golden;
mod round_trip;
mod values;
