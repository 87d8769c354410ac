//! The rings on real files and pipes, each test on every back end that this machine has.
#![allow(clippy::print_stderr, reason = "a skipped back end is said aloud")]
#![allow(clippy::unwrap_used, reason = "all of this binary is a test, its helpers too")]

mod cached;
mod in_flight;
mod round_trip;
mod shutdown;
mod support;
