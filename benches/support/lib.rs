//! What the benches share: known files, a host and a mount of them, ways to read, and what single operations took.

#![forbid(unsafe_code)]

pub mod access;
pub mod corpus;
pub mod latency;
pub mod process;
pub mod record;
pub mod rig;
pub mod run;
pub mod sessions;

pub use corpus::{Corpus, write_pattern};
pub use rig::{Rig, mounted_corpus};
