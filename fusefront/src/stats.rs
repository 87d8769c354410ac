//! Counters of one mount: what `wormhole status` shows. They only rise, gauges apart.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use transport::waits::{Recent, Stall};

use crate::stages::ReadStages;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// Counts as one in its [`Gauge`] for as long as it lives.
#[derive(Debug)]
pub struct Held<'a>(&'a Gauge);

impl Gauge {
    /// One more until the answer drops.
    pub fn hold(&self) -> Held<'_> {
        self.0.fetch_add(1, Relaxed);
        Held(self)
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// All counters of a mount.
#[derive(Debug, Default)]
pub struct Stats {
    /// FUSE read requests answered with bytes.
    pub reads: Counter,
    /// Bytes of those answers.
    pub read_bytes: Counter,
    /// Of these, bytes that were in L1 when asked for.
    pub l1_bytes: Counter,
    /// Bytes of file contents read from the disk cache, asked for or ahead.
    pub l2_bytes: Counter,
    /// Chunks of the disk cache that were of another version of their file, and that the host confirmed.
    pub l2_carried: Counter,
    /// Bytes of file contents received from the host, asked for by a reader.
    pub host_demand_bytes: Counter,
    /// Bytes of file contents received from the host ahead of any reader.
    pub host_readahead_bytes: Counter,
    /// Read-ahead requests given up before their data came.
    pub readahead_cancelled: Counter,
    /// Files that were fetched whole before they were opened, since their folder is being read file by file.
    pub scan_files: Counter,
    /// Small files whose bytes the kernel was given with the open.
    pub filled_files: Counter,
    /// Bytes of the files that were fetched whole before they were opened.
    pub scan_bytes: Counter,
    /// Bytes fetched that way, or as the start of a large file, that nobody had read when the folder was left.
    pub scan_wasted_bytes: Counter,
    /// Bytes copied because a reply straddled blocks.
    pub copied_gather_bytes: Counter,
    /// Requests for names and attributes sent to the host.
    pub metadata_requests: Counter,
    /// Changes that the host pushed.
    pub pushed_changes: Counter,
    /// Requests of programs being answered now.
    pub in_flight: Gauge,
    /// Requests for file contents at the host now.
    pub fetches_in_flight: Gauge,
    /// Operations that failed for good with an I/O error: what a program saw as EIO.
    pub errors: Counter,
    /// Times the host was asked whether a changed file still holds what was read of it.
    pub verifications: Counter,
    /// Reads refused because the file changed under the handle: what a program saw as ESTALE.
    pub stale: Counter,
    /// Where the time of reads went.
    pub read_stages: ReadStages,
    /// For how long contents were fetched.
    pub fetching: Stall,
    /// For how long some fetch or read waited for memory.
    pub memory: Stall,
    /// What held fetches up in the last seconds.
    pub recent: Mutex<Recent>,
}

impl Stats {
    /// Bytes of file contents received from the host, asked for or ahead.
    pub fn host_bytes(&self) -> u64 {
        self.host_demand_bytes.get() + self.host_readahead_bytes.get()
    }
}
