//! What the benches share: known files, a host and a mount of them (in this process, or as the built programs), ways to
//! read, and what single operations took.

#![forbid(unsafe_code)]

pub mod access;
pub mod arguments;
pub mod book;
pub mod ceiling;
pub mod content;
pub mod corpus;
pub mod daemons;
pub mod figures;
pub mod latency;
pub mod messages;
pub mod packet;
pub mod proc;
pub mod process;
pub mod record;
pub mod report;
pub mod rig;
pub mod route;
pub mod run;
pub mod sessions;
pub mod undo;

pub use corpus::{Corpus, write_pattern};
pub use rig::{Rig, mounted_corpus};
