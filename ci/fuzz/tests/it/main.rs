//! The committed inputs through their targets, without the fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it did not expect, and says where"
)]

mod corpus;
mod seeds;
