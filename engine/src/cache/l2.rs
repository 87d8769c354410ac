//! L2: chunks of files on a local disk, which outlive the process.
//!
//! One store a process and directory, shared by all mounts ([`L2`] is a handle; clones are the same store). The unit is
//! the chunk of 128 KiB, named by contents and number. A mount uses it like this:
//!
//! - [`L2::offer`] hands over bytes that came from a host, in the slots that L1 holds too. It never waits; the store's
//!   own thread hashes and writes them.
//! - [`L2::find`] tells at once what is there of an extent; [`L2::read`] reads it into a slot of the caller's, gives the
//!   slot back when that fails, and never gives wrong bytes: a chunk's BLAKE3 is checked when it is first read in each
//!   life of the process.
//! - [`L2::other_version`], [`L2::hash_of`] and [`L2::rekey`] carry chunks over to a new version of their file, once
//!   the host has confirmed them.
//!
//! A disk that fails is a cache that has nothing: offers are dropped, reads miss (unless the disk can still be read), one
//! warning is logged and the disk is tried again every half minute. Only contents whose file id is persistent and whose version tells every change may be
//! offered. STORAGE.md has the format on the disk and what is trusted after a crash.

mod dir;
mod error;
mod evict;
mod format;
mod health;
mod index;
mod load;
mod pages;
mod read;
mod region;
mod shared;
mod stats;
mod store;
mod verify;
mod write;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use uring::{Pool, PoolConfig, Ring, Slot};
use wire::chunk::{ChunkIndex, ContentHash};
use wire::{CHUNK_BYTES, Extent};

pub use dir::PINS_MAX;
pub use error::L2Error;
pub use read::{Found, Hit, Miss};
pub use stats::L2Stats;
pub use verify::{Verified, VerifyProgress};

use super::key::{ContentKey, FileKey};
use dir::{Dir, Limits};
use format::CHUNK;
use index::Entry;
use shared::{Offer, Queue, Shared, State};
use store::{Command, Store, answered};

/// Quota kept for what is not a region: the pins, the locks, the directory.
const RESERVE_BYTES: u64 = 1 << 20;
const REGION_BYTES_MIN: u64 = 4 << 20;
const REGION_BYTES_MAX: u64 = 256 << 20;
/// The least quota: the reserve and three regions, one being written, one full and one on its way out.
const QUOTA_BYTES_MIN: u64 = RESERVE_BYTES + 3 * REGION_BYTES_MIN;
/// The store's own buffers: a record being written again, one being verified, and index pages.
const SCRATCH_BYTES: usize = 4 << 20;
/// Commands that wait for the store's thread at most.
const COMMANDS_MAX: usize = 64;

/// Place and bounds of a store.
#[derive(Clone, Debug)]
pub struct L2Config {
    /// The directory, made when it is missing (mode 0700). Processes may share it.
    pub dir: PathBuf,
    /// The most that the directory takes, all processes together; at least 13 MiB.
    pub quota_bytes: u64,
    /// Of these, what others keep files in the directory with; the same for all its processes.
    pub reserved_bytes: u64,
    /// What the file system keeps free: the cache gives up regions below it.
    pub free_floor_bytes: u64,
    /// Bytes of offers that wait to be written at most; they keep their slots meanwhile, as do up to 8 MiB being
    /// written. At most an eighth of the pool, so that readers are not kept waiting for slots.
    pub queue_bytes_max: usize,
    /// How long a read of the disk may take; then it is a miss.
    pub read_deadline: Duration,
    /// How long a disk that failed is left alone.
    pub retry_after: Duration,
    /// Whether to read and write past the page cache.
    pub direct: DirectIo,
}

/// Whether files are read and written past the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectIo {
    /// Where the file system can.
    #[default]
    Probed,
    /// Never.
    Off,
}

impl L2Config {
    /// A store of `quota_bytes` in `dir` with the usual bounds.
    pub fn new(dir: impl Into<PathBuf>, quota_bytes: u64) -> L2Config {
        L2Config {
            dir: dir.into(),
            quota_bytes,
            reserved_bytes: 0,
            free_floor_bytes: 1 << 30,
            queue_bytes_max: 16 << 20,
            read_deadline: Duration::from_secs(2),
            retry_after: Duration::from_secs(30),
            direct: DirectIo::Probed,
        }
    }

    /// Size of a new region.
    fn region_bytes(&self) -> u64 {
        (self.quota_bytes / 64).clamp(REGION_BYTES_MIN, REGION_BYTES_MAX) / CHUNK_BYTES * CHUNK_BYTES
    }
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits to be written, which may still fail.
    Queued,
    /// All of it is there already.
    Present,
    /// There is no room for it now, or the disk is off.
    Dropped,
}

/// A handle to the store; clones share it. When the last is dropped it writes what it can and ends by itself.
#[derive(Clone)]
pub struct L2 {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl L2 {
    /// Opens the store and takes over what earlier processes left. Blocks for the directory's lock, at most 2 seconds, and
    /// a look at each region's name; what the regions hold is found behind it, and served as it is found.
    ///
    /// # Errors
    /// A quota below the least; a directory that cannot be made, locked or written; no thread.
    pub fn open(config: &L2Config, ring: Ring, pool: Pool) -> Result<L2, L2Error> {
        let least_bytes = QUOTA_BYTES_MIN.saturating_add(config.reserved_bytes);
        if config.quota_bytes < least_bytes {
            return Err(L2Error::Quota { quota_bytes: config.quota_bytes, least_bytes });
        }
        let region_bytes = config.region_bytes();
        let regions_max = region::REGIONS_MAX as u64 * region_bytes;
        let limits = Limits {
            regions_bytes: (config.quota_bytes - RESERVE_BYTES - config.reserved_bytes).min(regions_max),
            free_floor_bytes: config.free_floor_bytes,
        };
        let scratch = PoolConfig { capacity_bytes: SCRATCH_BYTES, idle_floor_bytes: 0 };
        let scratch = Pool::new(scratch).map_err(|source| L2Error::Memory { source })?;
        let dir = Dir::open(&config.dir, &scratch, config.direct == DirectIo::Probed)?;
        let failed = |source| L2Error::Dir { path: config.dir.clone(), source };
        let mut state = State::empty(dir.is_direct(), dir.pins().map_err(failed)?);
        state.loading = 1;
        load::enter(load::take_over(&dir, limits)?, &mut state);
        let shared = Arc::new(Shared {
            ring,
            pool,
            scratch,
            quota_bytes: config.quota_bytes,
            read_deadline: config.read_deadline,
            state: parking_lot::Mutex::new(state),
            queue: Queue::new(config.queue_bytes_max),
            health: health::Health::new(config.retry_after),
            counters: stats::Counters::default(),
        });
        let (commands, obeyed) = mpsc::channel(COMMANDS_MAX);
        let store = Store::new(Arc::clone(&shared), dir, limits, region_bytes);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|source| L2Error::Thread { source })?;
        std::thread::Builder::new()
            .name("wormhole-l2".into())
            .spawn(move || runtime.block_on(store.run(obeyed)))
            .map_err(|source| L2Error::Thread { source })?;
        Ok(L2 { shared, commands })
    }

    /// Takes whole chunks of a file to be kept, one after the other from number `first` on: each of 128 KiB, but the
    /// last of the file may be shorter. Never waits.
    ///
    /// `bytes` is shared with the store until it is written: a clone of the slot that L1 holds. Chunks that came in one
    /// offer are read back as one. Where they do not start at a multiple of 4 KiB in memory they are copied.
    pub fn offer(&self, content: ContentKey, first: ChunkIndex, bytes: Bytes) -> Offered {
        let chunks = bytes.len().div_ceil(CHUNK) as u64;
        let extent = Extent::new(first.0.saturating_mul(CHUNK_BYTES), bytes.len() as u64);
        if bytes.is_empty() || self.covered(content, extent) == extent.len.0 {
            return Offered::Present;
        }
        let last = first.0.saturating_add(chunks);
        let is_queued = match u32::try_from(first.0).ok().filter(|_| u32::try_from(last).is_ok()) {
            Some(first) if !self.shared.health.no_writes() => {
                self.shared.queue.push(Offer { content, first, bytes })
            }
            _ => false,
        };
        if is_queued {
            return Offered::Queued;
        }
        self.shared.counters.dropped.add(chunks);
        Offered::Dropped
    }

    /// How many bytes from the extent's start on are there without a gap, at most the extent's. A look at memory.
    pub fn covered(&self, content: ContentKey, extent: Extent) -> u64 {
        if self.shared.health.no_reads() {
            return 0;
        }
        let mut end = extent.start.0;
        let state = self.shared.state.lock();
        for chunk in extent.blocks(CHUNK_BYTES) {
            let Some(entry) = u32::try_from(chunk).ok().and_then(|chunk| state.find(content, chunk)) else {
                break;
            };
            end = chunk * CHUNK_BYTES + u64::from(entry.len());
            if u64::from(entry.len()) < CHUNK_BYTES {
                break;
            }
        }
        end.min(extent.end().0).saturating_sub(extent.start.0)
    }

    /// What is there from the extent's start on, to be read as one: at most to the end of its aligned MiB. A look at
    /// memory. `None` when the first byte is not there.
    ///
    /// Of a chunk whose hash was checked before, only the 4 KiB pages asked for will be read; otherwise whole chunks
    /// from the one with the first byte on.
    pub fn find(&self, content: ContentKey, extent: Extent) -> Option<Found> {
        self.shared.find(content, extent)
    }

    /// Reads what was found into a slot of [`Found::class`] or a larger one.
    ///
    /// To be called in a tokio runtime with time. Ends within a few times [`L2Config::read_deadline`]. A dropped future
    /// leaves the slot with the ring until the disk answers.
    ///
    /// # Errors
    /// [`Miss`], with the slot, when the disk fails or is late, when the bytes are not those written (the record is
    /// dropped then), or when the place was given up meanwhile.
    ///
    /// # Panics
    /// When the slot is too small.
    pub async fn read(&self, found: Found, slot: Slot) -> Result<Hit, Miss> {
        assert!(
            slot.capacity() >= found.class().bytes(),
            "a slot of {} bytes for {found:?}",
            slot.capacity()
        );
        self.shared.read(found, slot).await
    }

    /// As [`L2::read`], of what [`Found::is_plain`]; the outcome goes to `then`, on the ring's thread, which must neither
    /// wait nor panic.
    ///
    /// It has no deadline: whoever waits looks elsewhere when it takes too long.
    ///
    /// # Errors
    /// The slot, when the ring takes no more now.
    ///
    /// # Panics
    /// When the slot is too small.
    pub fn read_then(
        &self,
        found: Found,
        slot: Slot,
        then: impl FnOnce(Result<Hit, Miss>) + Send + 'static,
    ) -> Result<(), Slot> {
        self.shared.read_then(found, slot, then)
    }

    /// [`L2::find`] and [`L2::read`] with a slot of the store's pool, which it waits for.
    pub async fn get(&self, content: ContentKey, extent: Extent) -> Option<Hit> {
        let found = self.find(content, extent)?;
        let slot = self.shared.pool.lend(found.class()).await;
        self.read(found, slot).await.ok()
    }

    /// The contents of the same file that hold this chunk, when they are of another version.
    pub fn other_version(&self, content: ContentKey, chunk: ChunkIndex) -> Option<ContentKey> {
        let state = self.shared.state.lock();
        let number = state.index.find(content.file(), u32::try_from(chunk.0).ok()?)?;
        Some(state.index.get(number).content()).filter(|other| *other != content)
    }

    /// [`L2::other_version`] of each of these chunks, those that have one.
    pub fn other_versions(&self, content: ContentKey, chunks: Range<u64>) -> Vec<(ChunkIndex, ContentKey)> {
        let mut others = Vec::new();
        for chunk in chunks {
            // The lock is taken anew for each: readers come in between.
            let chunk = ChunkIndex(chunk);
            others.extend(self.other_version(content, chunk).map(|other| (chunk, other)));
        }
        others
    }

    /// The BLAKE3 of a chunk's bytes, from the index: at most one read of 4 KiB for 56 chunks that were written together.
    pub async fn hash_of(&self, content: ContentKey, chunk: ChunkIndex) -> Option<ContentHash> {
        let chunk = u32::try_from(chunk.0).ok()?;
        let spot = self.shared.state.lock().find(content, chunk).map(Entry::spot)?;
        Some(self.shared.record(content, chunk, spot).await.ok()?.hash())
    }

    /// Makes chunks of `old` chunks of `new`, another version of the same file with the same bytes there; how many are.
    ///
    /// Their bytes stay where they are. They are not to be had as chunks of `old` any more.
    ///
    /// # Errors
    /// When the store is closed, or late: some may be chunks of `new` already then.
    pub async fn rekey(
        &self,
        old: ContentKey,
        new: ContentKey,
        chunks: impl IntoIterator<Item = ChunkIndex>,
    ) -> Result<u64, L2Error> {
        if old.file() != new.file() {
            return Ok(0);
        }
        let chunks = chunks.into_iter().filter_map(|chunk| u32::try_from(chunk.0).ok()).collect();
        answered(&self.commands, ANSWER_WITHIN, |reply| Command::Rekey { old, new, chunks, reply }).await
    }

    /// Keeps a file's chunks, of whatever version, when room is made; also those not there yet. Lasts over restarts.
    ///
    /// At most half of a region may be pinned for it to be emptied: pins that fill the quota stop new chunks.
    ///
    /// # Errors
    /// Too many pins; a directory that cannot be written; a store that is closed or late.
    pub async fn pin(&self, file: FileKey) -> Result<(), L2Error> {
        self.pin_all(vec![file]).await
    }

    /// [`L2::pin`] of many files at once: all of them or none, and one write.
    ///
    /// # Errors
    /// As there.
    pub async fn pin_all(&self, files: Vec<FileKey>) -> Result<(), L2Error> {
        answered(&self.commands, ANSWER_WITHIN, |reply| Command::Pin { files, is_pinned: true, reply })
            .await?
    }

    /// Ends [`L2::pin`].
    ///
    /// # Errors
    /// As there.
    pub async fn unpin(&self, file: FileKey) -> Result<(), L2Error> {
        self.unpin_all(vec![file]).await
    }

    /// [`L2::unpin`] of many files at once.
    ///
    /// # Errors
    /// As there.
    pub async fn unpin_all(&self, files: Vec<FileKey>) -> Result<(), L2Error> {
        answered(&self.commands, ANSWER_WITHIN, |reply| Command::Pin { files, is_pinned: false, reply })
            .await?
    }

    /// Whether a file is pinned.
    pub fn is_pinned(&self, file: FileKey) -> bool {
        self.shared.state.lock().pins.contains(&file.0)
    }

    /// Waits until what was offered before is written, with its index.
    ///
    /// # Errors
    /// A store that is closed, or a disk that takes longer than `deadline`.
    pub async fn flush(&self, deadline: Duration) -> Result<(), L2Error> {
        answered(&self.commands, deadline, Command::Flush).await
    }

    /// Drops all that this process holds, and its files. Pins stay.
    ///
    /// # Errors
    /// A store that is closed, or late.
    pub async fn clear(&self) -> Result<(), L2Error> {
        answered(&self.commands, ANSWER_WITHIN, Command::Clear).await
    }

    /// Has every record checked again at its next read, as in another life of the process: for benches.
    pub fn doubt_all(&self) {
        let pieces = self.shared.state.lock().index.pieces();
        for piece in 0..pieces {
            self.shared.state.lock().index.doubt(piece);
        }
    }

    /// What the store holds and did.
    pub fn stats(&self) -> L2Stats {
        self.shared.stats()
    }

    /// Ends the store: writes what was offered, then its index. Other handles miss from then on.
    ///
    /// # Errors
    /// [`L2Error::Deadline`]: what was not written is lost, which is no harm.
    pub async fn close(&self, deadline: Duration) -> Result<(), L2Error> {
        match answered(&self.commands, deadline, Command::Close).await {
            Err(L2Error::Closed) => Ok(()),
            result => result,
        }
    }
}

/// How long the store may take for what is not bulk work.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

impl std::fmt::Debug for L2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("L2").field(&self.stats()).finish()
    }
}

#[cfg(test)]
mod tests;
