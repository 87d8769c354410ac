//! What can go wrong at the two boundaries of this crate: making a pool, using a ring.

use std::fmt;
use std::io;
use std::time::Duration;

/// A pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The capacity is not a whole number of extents; choose a multiple of 1 MiB, at least one.
    #[error("a slab of {capacity_bytes} bytes is not a whole, positive number of MiB")]
    Capacity {
        /// What was asked for.
        capacity_bytes: usize,
    },
    /// The kernel refused the mapping; lower the memory budget or raise the limit (`ulimit -v`, cgroup).
    #[error("mapping a slab of {capacity_bytes} bytes")]
    Map {
        /// What was asked for.
        capacity_bytes: usize,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

/// Which way bytes move in an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From the file into a slot.
    Read,
    /// From shared bytes into the file.
    Write,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Read => "read",
            Operation::Write => "write",
        })
    }
}

/// A ring could not be started, or an operation or its end failed.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The configuration names an impossible bound; correct it.
    #[error("ring configuration: {reason}")]
    Config {
        /// Which field, and what it must be.
        reason: &'static str,
    },
    /// io_uring was demanded and this kernel or container refuses it; allow it or choose another back end.
    #[error("io_uring is not usable here: {reason}")]
    Refused {
        /// What the kernel said, in words.
        reason: String,
    },
    /// A thread of the ring could not be started; the process is at its limit of threads or memory.
    #[error("a thread cannot be started: this process is at a limit of threads or memory")]
    Thread {
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The ring was stopped before this operation was submitted; nothing was read or written.
    #[error("the ring is stopped")]
    Stopped,
    /// The operation itself failed; what the device or the file system says is the source.
    #[error("{operation} of {len} bytes at offset {offset}")]
    Io {
        /// Which way.
        operation: Operation,
        /// Bytes asked for.
        len: usize,
        /// Where in the file, in bytes.
        offset: u64,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Operations were still in flight when the drain deadline passed: their slots and files stay with the ring's
    /// thread, which goes on waiting; exit the process without waiting for it.
    #[error("{in_flight} operations still in flight {deadline:?} after the ring was stopped")]
    DrainDeadline {
        /// How many the kernel has not completed.
        in_flight: u64,
        /// How long was waited.
        deadline: Duration,
    },
}
