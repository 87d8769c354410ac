//! Why a store cannot be opened or told something.

use std::io;
use std::path::PathBuf;

/// The disk cache could not be opened, or could not do what it was told.
///
/// Reads and offers never fail: a disk that does not answer is a miss.
#[derive(Debug, thiserror::Error)]
pub enum L2Error {
    /// The quota holds no useful number of regions; raise it, or go without a disk cache.
    #[error("a cache of {quota_bytes} bytes is too small: it takes at least {least_bytes}")]
    Quota {
        /// What was asked for.
        quota_bytes: u64,
        /// The least.
        least_bytes: u64,
    },
    /// The directory cannot be used; choose another one or mend what the reason says.
    #[error("the cache directory {}", path.display())]
    Dir {
        /// Where.
        path: PathBuf,
        /// What the file system says.
        #[source]
        source: io::Error,
    },
    /// Another process keeps the directory locked, which takes it milliseconds; look for one that is stopped.
    #[error("the cache directory {} stays locked by another process", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// The store's thread could not be started; the process is at its limit of threads or memory.
    #[error("the thread of the disk cache cannot be started")]
    Thread {
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// There is no memory for the store's own buffers; the process is at its limit.
    #[error("memory for the disk cache")]
    Memory {
        /// What the pool says.
        #[source]
        source: uring::PoolError,
    },
    /// So many files are pinned already; unpin some.
    #[error("{most} files are pinned already, which is the most")]
    Pins {
        /// The bound.
        most: usize,
    },
    /// The store is closed.
    #[error("the disk cache is closed")]
    Closed,
    /// The store did not end in time; what it wrote last may be missing at the next start.
    #[error("the disk cache did not write its index within {}s", deadline.as_secs())]
    Deadline {
        /// How long was waited.
        deadline: std::time::Duration,
    },
}
