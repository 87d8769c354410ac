//! io_uring behind a safe, `Send` face: rings that read and write files, and the slots they do it with.
//!
//! **The invariant.** A byte of the slab has one writer or any number of readers, never both, and memory that the kernel
//! may still touch is owned by the table of operations in flight until the completion is seen. A [`Slot`] is ours and
//! writable; in flight it is the kernel's and out of reach; [`Filled`] is readable; [`bytes::Bytes`] is shared. When the
//! last owner drops, the slot goes home to its [`Pool`]. The tests `dropped_future_keeps_the_slot_until_the_completion`,
//! `shutdown_past_its_deadline_frees_nothing` and the property test of `pool.rs` fail when this is broken.
//!
//! This is the only crate of the workspace with `unsafe` in it: the mapping (`region.rs`), the addresses handed to the
//! kernel (`flight.rs`), the probe (`probe.rs`) and the allocator's calls about its free memory (`heap.rs`).
#![deny(unsafe_op_in_unsafe_fn)]

mod buddy;
mod cached;
mod class;
mod error;
mod fallback;
mod flight;
mod handle;
mod heap;
mod intake;
mod pool;
mod probe;
mod region;
mod ring;
mod slot;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use cached::{CachedRead, read_cached};
pub use class::SlotClass;
pub use error::{Operation, PoolError, RingError};
pub use handle::{Backend, BackendChoice, Done, ReadAt, Ring, RingConfig, RingStats};
pub use heap::{bound_free_heap, trim_heap};
pub use pool::{Pool, PoolConfig, PoolStats};
pub use slot::{Filled, Slot, SlotRange};
