//! The mount's caches of file contents.
//!
//! [`L1`] holds blocks in pool memory, [`L2`] holds chunks on a local disk. Each is named by the contents it belongs to ([`ContentKey`]: host, file
//! and version) and its place, so that a changed file never meets its old bytes.

pub mod key;
pub mod l1;
pub mod l2;

pub use key::{BlockKey, ContentKey, FileKey};
pub use l1::{L1, L1Stats};
pub use l2::L2;
