//! What the store holds and did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the store holds and did; counts are since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L2Stats {
    /// Bytes of files held.
    pub bytes: u64,
    /// Records, one a chunk.
    pub records: u64,
    /// Region files of this process.
    pub regions: u64,
    /// Bytes of these files.
    pub region_bytes: u64,
    /// The quota of the directory.
    pub quota_bytes: u64,
    /// Files pinned.
    pub pinned_files: u64,
    /// Whether what an earlier process left is still being read; what is found already is served.
    pub is_loading: bool,
    /// Whether files are read and written past the page cache.
    pub is_direct: bool,
    /// Why the disk is left alone, when it is.
    pub degraded: Option<String>,
    /// Whether chunks are left out for want of room: the file system has too little free, or too much is pinned.
    pub lacks_room: bool,
    /// Reads answered.
    pub hits: u64,
    /// Bytes of them.
    pub hit_bytes: u64,
    /// Reads not answered, the place having been found: failed, late, corrupt, or evicted meanwhile.
    pub misses: u64,
    /// Chunks written.
    pub written: u64,
    /// Bytes of them.
    pub written_bytes: u64,
    /// Chunks offered and not taken: the queue full, the disk failing or without room.
    pub dropped: u64,
    /// Chunks given up to make room.
    pub evicted: u64,
    /// Chunks written again because they are pinned or read often.
    pub rewritten: u64,
    /// Chunks whose bytes were not those written.
    pub corrupt: u64,
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Bytes copied because they were not whole blocks in memory.
    pub copied_bytes: u64,
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The counts behind [`L2Stats`].
        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            /// Fills the counts in.
            pub(super) fn fill(&self, stats: L2Stats) -> L2Stats {
                L2Stats { $($name: self.$name.0.load(Relaxed),)* ..stats }
            }
        }
    };
}

counters!(
    hits,
    hit_bytes,
    misses,
    written,
    written_bytes,
    dropped,
    evicted,
    rewritten,
    corrupt,
    read_errors,
    write_errors,
    copied_bytes
);

#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }
}
