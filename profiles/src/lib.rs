//! Profiling of Wormhole: flamegraphs of its benches.
//!
//! README.md beside this crate says how to take one and how to read it.
#![forbid(unsafe_code)]

mod bench;

pub use bench::criterion;
