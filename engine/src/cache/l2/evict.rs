//! Making room: the oldest region goes; what is pinned or read often in it is written again first.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::timeout;
use wire::chunk::ContentHash;
use wire::{CHUNK_BYTES, Extent};

use super::format::Record;
use super::index::{Entry, EntryNo, Spot};
use super::read::For;
use super::region::{Phase, Region};
use super::store::Store;
use super::write::Chunk;
use crate::cache::key::ContentKey;

/// Reads after which a record is worth writing again.
const HOT_HITS: u32 = 2;
/// How long a slot is waited for to write a record again.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(1);

/// What becomes of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is written anew.
    Spare,
    /// Its file is deleted.
    Deleted,
}

impl Store {
    /// Ends the active region and begins another one, making room for it; whether there is one now.
    pub(super) async fn next_active(&mut self) -> bool {
        self.shared.state.lock().regions.seal_active();
        self.flush_pages(false).await;
        // Growing comes before the spare one, so that a process below its share asks for more.
        let mut next = self.grow();
        if next.is_none() && self.shared.health.no_writes() {
            // A disk that takes nothing new keeps what it has.
            return false;
        }
        if next.is_none() {
            next = self.shared.state.lock().regions.spare();
        }
        if next.is_none() && self.evict(Fate::Spare).await {
            next = self.shared.state.lock().regions.spare();
        }
        let Some(next) = next else { return false };
        self.shared.state.lock().regions.activate(next);
        // The next one is emptied now, while there is room to write again what is worth it.
        if self.is_full() {
            self.evict(Fate::Spare).await;
        }
        true
    }

    /// Whether the next region has to be taken from the oldest records.
    fn is_full(&self) -> bool {
        let has_spare = self.shared.state.lock().regions.spare().is_some();
        // What cannot be told now shows when the next region is needed.
        let used = self.dir.used_bytes().unwrap_or(0);
        let free = self.dir.free_bytes().unwrap_or(u64::MAX);
        let is_at_quota = used + self.region_bytes > self.limits.regions_bytes;
        let is_at_floor = free < self.limits.free_floor_bytes.saturating_add(self.region_bytes);
        !has_spare && (is_at_quota || is_at_floor)
    }

    /// Gives a whole region back to the file system.
    pub(super) async fn give_up_oldest(&mut self) {
        let spare = self.shared.state.lock().regions.spare();
        match spare {
            Some(spare) => self.end(spare, Fate::Deleted),
            None => drop(self.evict(Fate::Deleted).await),
        }
    }

    /// Empties the oldest region that may go; whether there was one.
    pub(super) async fn evict(&mut self, fate: Fate) -> bool {
        // A write under way would land in a region that is not its own any more.
        self.settle_writes().await;
        let Some(oldest) = self.oldest() else { return false };
        self.rewrite(oldest).await;
        self.settle_writes().await;
        self.empty(oldest).await;
        self.end(oldest, fate);
        true
    }

    /// The oldest region whose pinned records can be written again, in the room the active one has.
    fn oldest(&self) -> Option<u16> {
        let pinned = self.pinned_bytes();
        let state = self.shared.state.lock();
        // The oldest regions are read last: those known by now may be the newest.
        if state.loading > 0 {
            return None;
        }
        let room = state.regions.active().map_or(0, |(_, region)| region.room_bytes());
        let may_go = |(at, region): &(u16, &Region)| {
            let pinned = pinned.get(at).copied().unwrap_or(0);
            region.phase == Phase::Sealed && pinned <= room.min(region.bytes() / 2)
        };
        state.regions.iter().filter(may_go).min_by_key(|(_, region)| region.number).map(|(at, _)| at)
    }

    fn pinned_bytes(&self) -> HashMap<u16, u64> {
        let mut bytes = HashMap::new();
        if self.shared.state.lock().pins.is_empty() {
            return bytes;
        }
        self.for_each_entry(|pins, _, entry| {
            if pins.contains(&entry.file) {
                *bytes.entry(entry.region).or_default() += u64::from(entry.len());
            }
        });
        bytes
    }

    /// Walks all entries, letting readers in between.
    fn for_each_entry(&self, mut look: impl FnMut(&HashSet<u64>, EntryNo, &Entry)) {
        let pieces = self.shared.state.lock().index.pieces();
        for piece in 0..pieces {
            let state = self.shared.state.lock();
            state.index.piece(piece).for_each(|(number, entry)| look(&state.pins, number, entry));
        }
    }

    /// Writes the pinned records of a region again, and those read often, as far as they leave room for new ones.
    async fn rewrite(&mut self, at: u16) {
        let (mut pinned, mut hot) = (Vec::new(), Vec::new());
        self.for_each_entry(|pins, _, entry| {
            if entry.region == at && pins.contains(&entry.file) {
                pinned.push((entry.block, *entry));
            } else if entry.region == at && entry.hits() >= HOT_HITS {
                hot.push((entry.block, *entry));
            }
        });
        let (region_bytes, room) = {
            let state = self.shared.state.lock();
            let room = state.regions.active().map_or(0, |(_, region)| region.room_bytes());
            (state.regions.get(at).map_or(0, Region::bytes), room)
        };
        hot.sort_unstable_by_key(|(block, _)| *block);
        let pinned_bytes: u64 = pinned.iter().map(|(_, entry)| u64::from(entry.len())).sum();
        let mut left = room.saturating_sub(pinned_bytes).min(region_bytes / 4);
        hot.retain(|(_, entry)| {
            let keeps = left >= u64::from(entry.len());
            left = left.saturating_sub(u64::from(entry.len()));
            keeps
        });
        pinned.extend(hot);
        pinned.sort_unstable_by_key(|(block, _)| *block);
        let mut run: Vec<Entry> = Vec::new();
        for (_, entry) in pinned {
            if run.last().is_some_and(|last| !is_next(last, &entry)) {
                self.rewrite_run(&std::mem::take(&mut run)).await;
            }
            run.push(entry);
        }
        self.rewrite_run(&run).await;
    }

    /// Writes records again that follow one another in their file and on the disk.
    async fn rewrite_run(&mut self, run: &[Entry]) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
        let start = u64::from(first.chunk) * CHUNK_BYTES;
        let end = u64::from(last.chunk) * CHUNK_BYTES + u64::from(last.len());
        let Some(found) = self.shared.find(first.content(), Extent::new(start, end - start)) else { return };
        let Ok(slot) = timeout(SLOT_WAIT_MAX, self.shared.scratch.lend(found.class())).await else { return };
        let Ok(hit) = self.shared.fill(&found, slot, For::Upkeep).await else { return };
        let mut chunks = Vec::new();
        for entry in run {
            let at = u64::from(entry.chunk) * CHUNK_BYTES - hit.extent.start.0;
            let from = usize::try_from(at).unwrap_or(usize::MAX);
            let to = from.saturating_add(entry.len() as usize);
            let Some(bytes) = hit.bytes.get(from..to) else { break };
            let Ok(record) = self.shared.record(entry.content(), entry.chunk, entry.spot()).await else {
                continue;
            };
            // Checked against what was recorded: bytes that went bad must not get a hash of their own.
            if ContentHash::of(bytes) != record.hash() {
                self.shared.counters.corrupt.add(1);
                continue;
            }
            let (content, hash) = (entry.content(), record.hash());
            chunks.push(Chunk {
                content,
                number: entry.chunk,
                whole: hit.bytes.clone(),
                range: from..to,
                hash,
            });
        }
        let count = chunks.len();
        let left = self.place(chunks).len();
        self.shared.counters.rewritten.add((count - left) as u64);
        if self.writes.len() >= super::store::WRITES_MAX {
            self.settle_writes().await;
        }
    }

    /// Takes a region's records out of the index; records of its index that lead elsewhere move to the active one.
    async fn empty(&mut self, at: u16) {
        if let Some(region) = self.shared.state.lock().regions.get_mut(at) {
            region.phase = Phase::Leaving;
        }
        let (mut evicted, mut guests) = (0, Vec::new());
        let pieces = self.shared.state.lock().index.pieces();
        for piece in 0..pieces {
            let mut state = self.shared.state.lock();
            let gone: Vec<EntryNo> = (state.index.piece(piece))
                .filter(|(_, entry)| entry.region == at)
                .map(|(number, _)| number)
                .collect();
            evicted += gone.len() as u64;
            for number in gone {
                state.remove(number);
            }
            guests.extend(
                state.index.piece(piece).filter(|(_, entry)| entry.home == at).map(|(_, entry)| *entry),
            );
        }
        self.shared.counters.evicted.add(evicted);
        for guest in guests {
            let (content, chunk, spot) = (guest.content(), guest.chunk, guest.spot());
            let record = self.shared.record(content, chunk, spot).await;
            let is_moved = record.is_ok_and(|record| self.enter_elsewhere(spot, record));
            if !is_moved {
                self.shared.state.lock().remove_at(content, chunk, spot);
            }
        }
    }

    /// Enters a record of bytes that stay where they are in the active region's index; whether there was a place.
    pub(super) fn enter_elsewhere(&self, spot: Spot, record: Record) -> bool {
        let mut state = self.shared.state.lock();
        let Some((active, region)) = state.regions.active_mut() else { return false };
        region.promise() && state.enter(active, spot.region, record).is_some()
    }

    /// Ends a region that holds nothing any more.
    fn end(&mut self, at: u16, fate: Fate) {
        let mut state = self.shared.state.lock();
        let Some(region) = state.regions.get_mut(at) else { return };
        let (number, is_lost) = (region.number, region.is_lost);
        region.phase = Phase::Leaving;
        state.pages.forget(number);
        drop(state);
        let ended = match fate {
            Fate::Spare if !is_lost => self.dir.renew(number).map(Some),
            // A write that was given up may still land there.
            Fate::Spare | Fate::Deleted => self.dir.delete(number).map(|()| None),
        };
        let mut state = self.shared.state.lock();
        match ended {
            Ok(Some(next)) => {
                if let Some(region) = state.regions.get_mut(at) {
                    region.renew(next);
                }
            }
            Ok(None) => drop(state.regions.remove(at)),
            Err(error) => {
                state.regions.remove(at);
                drop(state);
                self.shared.health.write_failed("giving a region up", &error);
            }
        }
    }

    /// The chunks of `old` that are byte for byte those of `new` get a second record, of `new`; how many there were.
    pub(super) async fn rekey(&mut self, old: ContentKey, new: ContentKey, chunks: &[u32]) -> u64 {
        let mut moved = 0;
        for &chunk in chunks {
            let Some(spot) = self.shared.state.lock().find(old, chunk).map(Entry::spot) else { continue };
            let Ok(record) = self.shared.record(old, chunk, spot).await else { continue };
            let record = Record::new(new, chunk, record.place(), &record.hash());
            if self.enter_elsewhere(spot, record) {
                moved += 1;
            } else if self.next_active().await {
                // The room made may have been the chunk's own.
                let is_there =
                    self.shared.state.lock().find(old, chunk).is_some_and(|entry| entry.spot() == spot);
                moved += u64::from(is_there && self.enter_elsewhere(spot, record));
            } else {
                break;
            }
        }
        self.flush_pages(true).await;
        moved
    }
}

/// Whether a record follows another one in its file and on the disk, so that one read gives both.
fn is_next(last: &Entry, next: &Entry) -> bool {
    let chunks_an_extent = (1 << 20) / CHUNK_BYTES;
    last.content() == next.content()
        && last.chunk + 1 == next.chunk
        && u64::from(last.chunk) / chunks_an_extent == u64::from(next.chunk) / chunks_an_extent
}
