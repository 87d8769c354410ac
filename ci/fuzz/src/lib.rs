//! Fuzz targets: what a hostile peer, host, file or person may hand to Wormhole, as functions of bytes.
//!
//! A target takes any bytes and panics when a promise is broken; [`target`] lists them all. `cargo ci fuzz` feeds them
//! from libFuzzer, `cargo test -p wormhole-fuzz` with the committed corpus and with every input that once broke one.

#![forbid(unsafe_code)]

pub mod input;
mod network;
pub mod target;
