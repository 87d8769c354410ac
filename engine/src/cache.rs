//! The mount's caches of file contents.
//!
//! [`L1`] holds blocks in pool memory. A block is named by the contents it belongs to ([`ContentKey`]: host, file
//! and version) and its place, so that a changed file never meets its old bytes.

pub mod key;
pub mod l1;

pub use key::{BlockKey, ContentKey};
pub use l1::{L1, L1Stats};
