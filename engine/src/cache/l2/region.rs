//! Regions: the parts of the disk that are written once from the front, and given up whole.

use std::fs::File;
use std::sync::Arc;

use super::dir::RegionFile;
use super::format::{BLOCK_BYTES, PAGE_RECORDS};

/// Regions of one process: what a 16-bit number tells apart.
pub(super) const REGIONS_MAX: usize = 1 << 16;
/// Blocks of a region, for the same reason: 256 MiB.
const BLOCKS_MAX: u64 = 1 << 16;

/// What a region is there for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of it counts; the next one to be written.
    Spare,
    /// New records go here.
    Active,
    /// It is full.
    Sealed,
    /// Its records are on their way out; none is handed out any more.
    Leaving,
}

pub(super) struct Region {
    /// Its number on the disk; a new one each time it is written anew.
    pub(super) number: u64,
    pub(super) file: Arc<File>,
    pub(super) phase: Phase,
    blocks: u32,
    /// Blocks taken from the front.
    front: u32,
    /// Places in the index that are promised to writes under way or taken.
    promised: u32,
    /// Places in the index that are taken.
    taken: u32,
    /// Whether a write was given up that may still land in it: it must not be written anew.
    pub(super) is_lost: bool,
}

impl Region {
    pub(super) fn new(region: RegionFile, phase: Phase) -> Region {
        let RegionFile { number, file, bytes } = region;
        let blocks = u32::try_from((bytes / BLOCK_BYTES as u64).min(BLOCKS_MAX)).unwrap_or(0);
        Region { number, file, phase, blocks, front: 0, promised: 0, taken: 0, is_lost: false }
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK_BYTES as u64
    }

    /// Whether a record of so many blocks fits beside what is promised.
    pub(super) fn fits(&self, blocks: u32) -> bool {
        self.front + blocks + pages_for(self.promised + 1) <= self.blocks
    }

    /// Takes room for a record of so many blocks, which must fit; its first block.
    pub(super) fn reserve(&mut self, blocks: u32) -> u16 {
        assert!(self.fits(blocks), "a record of {blocks} blocks does not fit region {}", self.number);
        let block = u16::try_from(self.front).expect("a region has at most 2^16 blocks");
        self.front += blocks;
        self.promised += 1;
        block
    }

    /// Takes the next place in the index: one that was promised.
    pub(super) fn take_slot(&mut self) -> u16 {
        assert!(self.taken < self.promised, "an index place of region {} was not promised", self.number);
        let slot = u16::try_from(self.taken).expect("fewer records than blocks, and those are at most 2^16");
        self.taken += 1;
        slot
    }

    /// Promises a place in the index for a record whose bytes are elsewhere; whether there is one.
    pub(super) fn promise(&mut self) -> bool {
        let fits = self.fits(0);
        self.promised += u32::from(fits);
        fits
    }

    /// Bytes that chunks may still take, the index left out.
    pub(super) fn room_bytes(&self) -> u64 {
        let pages = pages_for(self.promised + 1);
        u64::from(self.blocks.saturating_sub(self.front + pages)) * BLOCK_BYTES as u64
    }

    /// Continues after what an earlier life wrote: so many blocks and places are taken.
    pub(super) fn resume(&mut self, front: u32, taken: u32) {
        (self.front, self.promised, self.taken) = (front, taken, taken);
    }

    /// Starts it anew under another number.
    pub(super) fn renew(&mut self, number: u64) {
        self.number = number;
        self.phase = Phase::Spare;
        self.resume(0, 0);
    }

    /// Where a page of the index is, in bytes: they go from the end to the front.
    pub(super) fn page_offset(&self, page: u32) -> Option<u64> {
        let block = self.blocks.checked_sub(page + 1)?;
        Some(u64::from(block) * BLOCK_BYTES as u64)
    }

    /// Whether so many blocks from `block` on lie inside.
    pub(super) fn holds(&self, block: u32, blocks: u32) -> bool {
        block.checked_add(blocks).is_some_and(|end| end <= self.blocks)
    }

    /// Pages that its index may have at most: when every block but theirs holds a record.
    pub(super) fn pages_max(&self) -> u32 {
        self.blocks / (PAGE_RECORDS + 1) + 1
    }
}

/// Pages that so many records take.
fn pages_for(records: u32) -> u32 {
    records.div_ceil(PAGE_RECORDS)
}

/// The page of an index place, and its number there.
pub(super) fn page_of(slot: u16) -> (u32, usize) {
    (u32::from(slot) / PAGE_RECORDS, (u32::from(slot) % PAGE_RECORDS) as usize)
}

/// The regions of a process.
#[derive(Default)]
pub(super) struct Regions {
    slots: Vec<Option<Region>>,
    active: Option<u16>,
}

impl Regions {
    pub(super) fn get(&self, at: u16) -> Option<&Region> {
        self.slots.get(usize::from(at))?.as_ref()
    }

    pub(super) fn get_mut(&mut self, at: u16) -> Option<&mut Region> {
        self.slots.get_mut(usize::from(at))?.as_mut()
    }

    /// Adds one; `None` when there are too many.
    pub(super) fn add(&mut self, region: Region) -> Option<u16> {
        let free = self.slots.iter().position(Option::is_none);
        let at = free.unwrap_or(self.slots.len());
        if at >= REGIONS_MAX {
            return None;
        }
        if at == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[at] = Some(region);
        u16::try_from(at).ok()
    }

    pub(super) fn remove(&mut self, at: u16) -> Option<Region> {
        self.slots.get_mut(usize::from(at))?.take()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &Region)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(at, region)| Some((u16::try_from(at).ok()?, region.as_ref()?)))
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    /// The one of this number.
    pub(super) fn numbered(&self, number: u64) -> Option<u16> {
        self.iter().find(|(_, region)| region.number == number).map(|(at, _)| at)
    }

    /// An empty one.
    pub(super) fn spare(&self) -> Option<u16> {
        self.iter().find(|(_, region)| region.phase == Phase::Spare).map(|(at, _)| at)
    }

    /// The one that is written.
    pub(super) fn active(&self) -> Option<(u16, &Region)> {
        let at = self.active?;
        Some((at, self.get(at)?))
    }

    /// The one that is written.
    pub(super) fn active_mut(&mut self) -> Option<(u16, &mut Region)> {
        let at = self.active?;
        Some((at, self.get_mut(at)?))
    }

    /// Ends the one that is written.
    pub(super) fn seal_active(&mut self) {
        if let Some((_, region)) = self.active_mut() {
            region.phase = Phase::Sealed;
        }
        self.active = None;
    }

    /// Begins to write one; no other is being written.
    pub(super) fn activate(&mut self, at: u16) {
        if let Some(region) = self.get_mut(at) {
            region.phase = Phase::Active;
            self.active = Some(at);
        }
    }
}
