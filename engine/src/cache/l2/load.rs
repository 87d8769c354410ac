//! Loading: what an earlier life of the cache left is found by its index pages.

use std::sync::Arc;

use tokio::task::AbortHandle;
use tokio::time::timeout;
use uring::{ReadAt, SlotClass, SlotRange};

use super::format::{BLOCK_BYTES, PAGE_RECORDS, Page, Record, blocks_of};
use super::index::{Entry, Spot};
use super::shared::Shared;
use super::store::Store;

/// Pages read at once, 128 KiB. As many in a row without a good one end a region's index.
const PAGES_A_READ: u32 = 32;
/// Records entered before readers are let in.
const RECORDS_A_LOCK: usize = 1024;

impl Store {
    /// Reads the index of the newest region, which is written on, and starts on the others, newest first.
    pub(super) async fn load(&mut self) -> AbortHandle {
        let mut regions: Vec<(u64, u16)> = {
            let state = self.shared.state.lock();
            let unknown = state.regions.iter().filter(|(_, region)| !region.is_scanned);
            unknown.map(|(at, region)| (region.number, at)).collect()
        };
        regions.sort_unstable();
        if let Some((number, newest)) = regions.pop() {
            let reach = scan(&self.shared, newest, number).await;
            let mut state = self.shared.state.lock();
            if let Some(region) = state.regions.get_mut(newest) {
                region.resume(reach.front, reach.taken);
                state.regions.activate(newest);
            }
        }
        let shared = Arc::clone(&self.shared);
        let rest = tokio::spawn(async move {
            while let Some((number, at)) = regions.pop() {
                scan(&shared, at, number).await;
            }
            shared.state.lock().is_loading = false;
        });
        rest.abort_handle()
    }
}

/// How far a region was written.
#[derive(Default)]
struct Reach {
    front: u32,
    taken: u32,
}

/// Enters a region's records in the index, the last ones first: what is there already is newer.
async fn scan(shared: &Shared, at: u16, number: u64) -> Reach {
    let mut found: Vec<(u32, Vec<Record>)> = Vec::new();
    let mut page = 0;
    while let Some(pages) = read_pages(shared, at, number, page).await {
        found.extend(pages);
        page += PAGES_A_READ;
    }
    let taken = found.last().map_or(0, |(page, _)| (page + 1) * PAGE_RECORDS);
    let mut reach = Reach { front: 0, taken };
    let numbered = found.iter().flat_map(|(page, records)| (page * PAGE_RECORDS..).zip(records));
    let mut records: Vec<_> = numbered.collect();
    records.reverse();
    for records in records.chunks(RECORDS_A_LOCK) {
        let mut state = shared.state.lock();
        if state.regions.get(at).is_none_or(|region| region.number != number) {
            return reach;
        }
        for (slot, record) in records {
            let place = record.place();
            let region = if place.region == number {
                reach.front = reach.front.max(place.block.saturating_add(blocks_of(place.len)));
                state.is_sound(at, record).then_some(at)
            } else {
                state.resolve(record)
            };
            let spot = region.and_then(|region| {
                let (block, slot) = (u16::try_from(place.block).ok()?, u16::try_from(*slot).ok()?);
                Some(Spot { region, home: at, block, slot, len: place.len })
            });
            let Some((spot, chunk)) = spot.zip(record.chunk()) else { continue };
            if state.index.find(record.content().file(), chunk).is_none() {
                state.insert(Entry::new(record.content(), chunk, spot));
            }
        }
    }
    if let Some(region) = shared.state.lock().regions.get_mut(at) {
        region.is_scanned = true;
    }
    reach
}

/// The good ones of the next pages of a region's index; `None` when there is none.
async fn read_pages(shared: &Shared, at: u16, number: u64, first: u32) -> Option<Vec<(u32, Vec<Record>)>> {
    let (file, offset, count) = {
        let state = shared.state.lock();
        let region = state.regions.get(at).filter(|region| region.number == number)?;
        let count = region.pages_max().checked_sub(first)?.min(PAGES_A_READ);
        // Pages go from the end to the front: the last of these comes first.
        let offset = region.page_offset((first + count).checked_sub(1)?)?;
        (Arc::clone(&region.file), offset, count)
    };
    let slot = timeout(shared.read_deadline, shared.scratch.lend(SlotClass::Chunk128K)).await.ok()?;
    let range = SlotRange::first(count as usize * BLOCK_BYTES);
    let answer = timeout(shared.read_deadline, shared.ring.read_at(ReadAt { file, slot, range, offset }));
    let answer = answer.await.ok()?;
    let filled = answer.slot.fill(answer.result.ok()?);
    let page = |i: u32| {
        let from = (count - 1 - i) as usize * BLOCK_BYTES;
        let bytes = filled.as_ref().get(from..from + BLOCK_BYTES)?;
        Some((first + i, Page::decode(bytes, number, first + i)?.records().to_vec()))
    };
    let pages: Vec<_> = (0..count).filter_map(page).collect();
    (!pages.is_empty()).then_some(pages)
}
