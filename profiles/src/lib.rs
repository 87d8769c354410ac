//! Measuring Wormhole: flamegraphs of its benches, and links to measure it across.
//!
//! README.md beside this crate says how to take one and how to read it.
#![forbid(unsafe_code)]

mod bench;
pub mod link;
pub mod netns;
pub mod quantity;

pub use bench::criterion;
