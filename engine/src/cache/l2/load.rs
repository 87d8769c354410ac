//! Loading: what an earlier life of the cache left is found by its index pages.

use std::sync::Arc;

use tokio::time::timeout;
use uring::{ReadAt, SlotClass, SlotRange};
use wire::CHUNK_BYTES;

use super::dir::{Dir, Limits, RegionFile};
use super::error::L2Error;
use super::format::{BLOCK_BYTES, PAGE_RECORDS, Page, Record, blocks_of};
use super::index::{Entry, Spot};
use super::region::{Phase, Region};
use super::shared::{Shared, State};
use super::store::Store;

/// Pages read at once, 128 KiB. As many in a row without a good one end a region's index.
const PAGES_A_READ: u32 = 32;
/// Records entered before readers are let in.
const RECORDS_A_LOCK: usize = 1024;

impl Store {
    /// Reads the index of the newest region, which is written on, and starts on the others, newest first.
    pub(super) async fn load(&mut self) {
        let mut regions: Vec<(u64, u16)> = {
            let state = self.shared.state.lock();
            state.regions.iter().map(|(at, region)| (region.number, at)).collect()
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
        self.load_behind(regions);
    }

    /// Takes over what processes left that died while this one lives, or whose last write the kernel ended only now.
    pub(super) fn adopt_orphans(&mut self) -> Result<(), L2Error> {
        let orphans = take_over(&self.dir, self.limits)?;
        if orphans.is_empty() {
            return Ok(());
        }
        let mut state = self.shared.state.lock();
        let mut regions = enter(orphans, &mut state);
        state.loading += 1;
        drop(state);
        regions.sort_unstable();
        self.load_behind(regions);
        Ok(())
    }

    /// Reads the index of regions, the last one first, beside all else; ends one that counts in [`State::loading`].
    fn load_behind(&mut self, mut regions: Vec<(u64, u16)>) {
        // One ends before the next begins, but for those that had nothing to do.
        while self.loads.try_join_next().is_some() {}
        if regions.is_empty() {
            let mut state = self.shared.state.lock();
            state.loading = state.loading.saturating_sub(1);
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.loads.spawn(async move {
            while let Some((number, at)) = regions.pop() {
                scan(&shared, at, number).await;
            }
            let mut state = shared.state.lock();
            state.loading = state.loading.saturating_sub(1);
        });
    }
}

/// The regions without an owner, which are ours from now on. What is more than the quota goes, the oldest first, and what a
/// crash left half made.
pub(super) fn take_over(dir: &Dir, limits: Limits) -> Result<Vec<RegionFile>, L2Error> {
    let failed = |source| L2Error::Dir { path: dir.path().to_owned(), source };
    let orphans = dir.adopt()?;
    let mut used = if orphans.is_empty() { 0 } else { dir.used_bytes().map_err(failed)? };
    let mut taken = Vec::new();
    for region in orphans {
        if used > limits.regions_bytes || region.bytes < CHUNK_BYTES {
            dir.delete(region.number).map_err(failed)?;
            used = used.saturating_sub(region.bytes);
        } else {
            taken.push(region);
        }
    }
    Ok(taken)
}

/// Enters regions that were taken over, as full ones; their numbers and places.
pub(super) fn enter(regions: Vec<RegionFile>, state: &mut State) -> Vec<(u64, u16)> {
    // More than there are places for is more than the quota allows.
    let enter =
        |region: RegionFile| Some((region.number, state.regions.add(Region::new(region, Phase::Sealed))?));
    regions.into_iter().filter_map(enter).collect()
}

/// How far a region was written.
#[derive(Default)]
struct Reach {
    front: u32,
    taken: u32,
}

/// Enters a region's records in the index, the last ones first: what is there already is newer.
async fn scan(shared: &Shared, at: u16, number: u64) -> Reach {
    let mut found: Vec<(u32, Box<[Record]>)> = Vec::new();
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
    reach
}

/// The good ones of the next pages of a region's index; `None` when there is none.
async fn read_pages(shared: &Shared, at: u16, number: u64, first: u32) -> Option<Vec<(u32, Box<[Record]>)>> {
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
        Some((first + i, Page::decode(bytes, number, first + i)?.records().into()))
    };
    let pages: Vec<_> = (0..count).filter_map(page).collect();
    (!pages.is_empty()).then_some(pages)
}
