//! Fetching whole small files before they are opened: many to a request, packed into one slot.
//!
//! A batch is one request and one slot. Each file lies in the slot from a page on, and L1 holds a slice of it under the
//! name of the file's contents at the version that was listed: who opens the file at that version finds its bytes, and who
//! opens it at another one does not. A reader that comes while a batch is on its way joins it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use engine::cache::{BlockKey, ContentKey, l1::Pressure};
use tokio::time::Instant;
use transport::{CallError, FilesCall, FilesRead, ReadCall};
use uring::{Slot, SlotClass};
use wire::{
    Class, ErrorCode, Extent, Name,
    chunk::ChunkIndex,
    limits::{FILES_MAX, READ_BYTES_MAX},
    message::{FileWanted, Target},
};

use super::{
    HandedOut, Inner, OpenRead, ReadPath,
    content::Content,
    flight::{AheadFor, Landed, Landing, Outcome, ScanId},
    spent::{By, Transit},
};
use crate::{error::VfsError, readahead::EXTENT_BYTES};

/// Where a file begins in its slot: at a page, as the disk takes it.
const PAGE_BYTES: usize = 4096;
/// Contents that moved to another version, of which is remembered that they did, before those closed are forgotten.
const MOVED_MAX: usize = 1024;

/// A file to be fetched before anybody opens it; its version must be settled.
#[derive(Clone, Debug)]
pub struct FileAhead {
    /// The caller's number of it.
    pub place: usize,
    /// Its name in the folder.
    pub name: Name,
    /// The file.
    pub file: OpenRead,
}

/// One file of a batch.
struct Load {
    place: usize,
    wanted: FileWanted,
    start: usize,
    key: BlockKey,
    kept_as: Option<ContentKey>,
    landing: Landing,
}

/// What goes into one slot.
#[derive(Default)]
struct Batch {
    files: Vec<(FileAhead, BlockKey, usize)>,
    end: usize,
}

impl Batch {
    /// Takes a file in, if it fits.
    fn add(&mut self, file: &FileAhead, key: BlockKey) -> bool {
        let len = usize::try_from(file.file.version.size.0).unwrap_or(usize::MAX);
        let most = SlotClass::Extent1M.bytes();
        let fits = self.files.len() < FILES_MAX && len <= most && self.end + len <= most;
        if fits {
            self.files.push((file.clone(), key, self.end));
            self.end = (self.end + len).next_multiple_of(PAGE_BYTES);
        }
        fits
    }

    /// The slot that all of it fits.
    fn class(&self) -> Option<SlotClass> {
        SlotClass::for_len(self.end.min(SlotClass::Extent1M.bytes()))
    }
}

impl ReadPath {
    /// Starts to fetch these files of a folder, as far as there is memory to spare; `lost` is told of those that will
    /// not come. Never waits; runs on the lane.
    pub fn fetch_files(
        &self,
        dir: &Target,
        (scan, files): (ScanId, Vec<FileAhead>),
        lost: impl Fn(usize) + Clone + Send + 'static,
    ) {
        let mut batch = Batch::default();
        for file in files {
            let key = self.0.small_block(&file.file);
            if self.0.l1.get(&key).is_some() || self.0.flights.contains(&key) {
                continue;
            }
            if self.0.is_on_disk(&file.file) {
                self.0.fetch_alone((dir, &file), key, scan);
                continue;
            }
            if !batch.add(&file, key) {
                self.0.send((dir, scan), std::mem::take(&mut batch), &lost);
                // An empty batch takes any small file.
                batch.add(&file, key);
            }
        }
        self.0.send((dir, scan), batch, &lost);
    }

    /// Starts to fetch the first extent of a large file of a folder, if there is memory to spare. Never waits; runs on
    /// the lane.
    pub fn fetch_head(&self, dir: &Target, scan: ScanId, file: &FileAhead) {
        let class = if self.0.goodput.is_slow() { SlotClass::Chunk128K } else { SlotClass::Extent1M };
        let key = BlockKey::at(self.0.name(&file.file).1, class, 0);
        self.0.fetch_alone((dir, file), key, scan);
    }

    /// How long a fetch ahead of any reader may take.
    pub fn ahead_deadline(&self) -> Duration {
        self.0.config.ahead_deadline
    }

    /// Calls off what a scan still has on its way and nobody waits for.
    pub fn call_off_scan(&self, scan: ScanId) {
        let cancelled = self.0.flights.cancel(|of| *of == AheadFor::Scan(scan));
        self.0.stats.readahead_cancelled.add(cancelled);
    }
}

impl Inner {
    /// The block that holds all of a small file.
    fn small_block(&self, file: &OpenRead) -> BlockKey {
        BlockKey::at(self.name(file).1, SlotClass::Chunk128K, 0)
    }

    fn is_on_disk(&self, file: &OpenRead) -> bool {
        let Some(disk) = &self.config.l2 else { return false };
        let size = file.version.size;
        let kept_as = self.name(file).0.kept_as(&file.version, file.settled);
        kept_as.is_some_and(|key| disk.covered(key, Extent::new(0, size.0)) == size.0)
    }

    /// Fetches one block of a file of its own, from the disk if it is there.
    fn fetch_alone(self: &Arc<Self>, (dir, ahead): (&Target, &FileAhead), key: BlockKey, scan: ScanId) {
        let FileAhead { name, file, .. } = ahead;
        let extent = key.extent(file.version.size);
        let class = usize::try_from(extent.len.0).ok().and_then(SlotClass::for_len);
        let Some(slot) = class.and_then(|class| self.l1.try_lend(class, Pressure::Served)) else { return };
        let Ok(path) = dir.path.join(name) else { return };
        let target = Target { share: dir.share, path, id: Some(file.id) };
        let Some(landing) = self.flights.open_ahead(key, AheadFor::Scan(scan)) else { return };
        let deadline = Instant::now() + self.config.ahead_deadline;
        let read = ReadCall { target, version: file.version, extent, class: Class::Readahead, deadline };
        let (named, content_key) = self.name(file);
        let version = (file.version, file.settled);
        let content =
            Arc::new(Content::new(named, content_key, version, HandedOut::Nothing, self.ledgers.clone()));
        let path = self.clone();
        let task = self.lane.spawn(async move { path.fetch(landing, &content, read, Some(slot)).await });
        self.flights.on_abort(&key, task.abort_handle());
    }

    /// Sends for a batch; without memory for it, all of it is lost.
    fn send(
        self: &Arc<Self>,
        (dir, scan): (&Target, ScanId),
        batch: Batch,
        lost: &(impl Fn(usize) + Clone + Send + 'static),
    ) {
        if batch.files.is_empty() {
            return;
        }
        let Some(slot) = batch.class().and_then(|class| self.l1.try_lend(class, Pressure::Served)) else {
            batch.files.iter().for_each(|(file, ..)| lost(file.place));
            return;
        };
        let mut loads = Vec::with_capacity(batch.files.len());
        for (ahead, key, start) in batch.files {
            let FileAhead { place, name, file } = ahead;
            let Some(landing) = self.flights.open_ahead(key, AheadFor::Scan(scan)) else { continue };
            let kept_as = self.name(&file).0.kept_as(&file.version, file.settled);
            let wanted = FileWanted { name, id: file.id, version: file.version };
            loads.push(Load { place, wanted, start, key, kept_as, landing });
        }
        if loads.is_empty() {
            return;
        }
        let keys: Vec<_> = loads.iter().map(|load| load.key).collect();
        let (path, dir, lost) = (self.clone(), dir.clone(), lost.clone());
        let task = self.lane.spawn(async move { path.bring_files(dir, loads, slot, lost).await });
        for key in keys {
            self.flights.on_abort(&key, task.abort_handle());
        }
    }

    async fn bring_files(&self, dir: Target, loads: Vec<Load>, slot: Slot, lost: impl Fn(usize)) {
        let _held = self.stats.fetches_in_flight.hold();
        let begun = Instant::now();
        let _fetching = self.stats.fetching.hold(begun);
        let files = loads.iter().map(|load| (load.wanted.clone(), load.start)).collect();
        let deadline = begun + self.config.ahead_deadline;
        let call = FilesCall { dir, files, class: Class::Readahead, deadline };
        let fetching = self.goodput.begin(begun);
        let FilesRead { filled, outcomes, trip } = match self.client.read_files(call, slot).await {
            Ok(read) => read,
            Err(error) => {
                let error: Outcome = Err(VfsError::from(error).about_a_found_file());
                for Load { place, landing, .. } in loads {
                    lost(place);
                    landing.land(&error, |_, _| {});
                }
                return;
            }
        };
        let bytes = filled.freeze();
        let round_trip = || Duration::from_micros(self.client.stats().rtt_us);
        fetching.arrived(trip.arrived, bytes.len() as u64, round_trip);
        let transit = Transit { begun, by: By::Host(trip) };
        for (load, outcome) in loads.into_iter().zip(outcomes) {
            if outcome.is_err() {
                lost(load.place);
            }
            self.land_file(load, &outcome, &bytes, &transit);
        }
    }

    fn land_file(&self, load: Load, outcome: &Result<(), ErrorCode>, slot: &Bytes, transit: &Transit) {
        let Load { wanted, start, kept_as, landing, .. } = load;
        let outcome = match outcome {
            Ok(()) => {
                let len = usize::try_from(wanted.version.size.0).unwrap_or(0);
                let bytes = slot.slice(start..start + len);
                let counter = match landing.is_awaited() {
                    true => &self.stats.host_demand_bytes,
                    false => &self.stats.host_readahead_bytes,
                };
                counter.add(len as u64);
                self.stats.scan_files.add(1);
                self.stats.scan_bytes.add(len as u64);
                if let (Some(disk), Some(kept_as)) = (&self.config.l2, kept_as) {
                    // What is not taken is counted there.
                    let _ = disk.offer(kept_as, ChunkIndex(0), bytes.clone());
                }
                Ok(Landed { bytes, transit: Some(*transit) })
            }
            Err(code) => {
                let error = CallError::Host { code: *code, detail: String::new() };
                Err(VfsError::from(error).about_a_found_file())
            }
        };
        landing.land(&outcome, |key, bytes| {
            // Contents that moved on still hold their blocks under the name of the version they came from.
            if !self.has_moved(&key.content) {
                self.l1.insert(key, bytes.clone());
            }
        });
    }

    /// Remembers that blocks of these contents may be of another version than their name says: from here on they take
    /// none that was not verified with them.
    pub(super) fn note_moved(&self, content: &Arc<Content>) {
        let mut moved = self.moved.lock();
        if moved.len() >= MOVED_MAX {
            moved.retain(|_, content| content.strong_count() > 0);
        }
        moved.insert(content.key(), Arc::downgrade(content));
    }

    fn has_moved(&self, key: &ContentKey) -> bool {
        self.moved.lock().get(key).is_some_and(|content| content.strong_count() > 0)
    }
}

/// Contents that are or were in doubt, by the name of their blocks. As many as are held open or remembered, twice at most.
pub(super) type Moved = HashMap<ContentKey, Weak<Content>>;

const _: () = assert!(READ_BYTES_MAX == EXTENT_BYTES);
const _: () = assert!(SlotClass::Extent1M.bytes() as u64 == READ_BYTES_MAX);
