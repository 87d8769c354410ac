//! What readers and the store's thread share: the index under its lock, the queue of offers, the counts.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uring::{Pool, Ring};

use super::format::{Record, blocks_of};
use super::health::Health;
use super::index::{Entry, EntryNo, Index, Spot};
use super::pages::{PageNo, Pages};
use super::region::{Phase, Regions, page_of};
use super::stats::{Counters, L2Stats};
use crate::cache::key::ContentKey;

pub(super) struct Shared {
    pub(super) ring: Ring,
    /// Of the process: for reads whose slot is theirs.
    pub(super) pool: Pool,
    /// The store's own: readers fill the other to the last slot, and wait for what is read into this one.
    pub(super) scratch: Pool,
    pub(super) quota_bytes: u64,
    pub(super) read_deadline: Duration,
    /// Nothing is awaited and no I/O done while it is held.
    pub(super) state: Mutex<State>,
    pub(super) queue: Queue,
    pub(super) health: Health,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn stats(&self) -> L2Stats {
        let state = self.state.lock();
        let stats = L2Stats {
            bytes: state.bytes,
            records: state.index.len() as u64,
            regions: state.regions.len() as u64,
            region_bytes: state.regions.iter().map(|(_, region)| region.bytes()).sum(),
            quota_bytes: self.quota_bytes,
            pinned_files: state.pins.len() as u64,
            is_loading: state.loading > 0,
            is_direct: state.is_direct,
            degraded: self.health.why(),
            lacks_room: self.health.lacks_room(),
            ..L2Stats::default()
        };
        drop(state);
        self.counters.fill(stats)
    }
}

/// Everything under the lock.
pub(super) struct State {
    pub(super) index: Index,
    pub(super) regions: Regions,
    pub(super) pages: Pages,
    /// Files whose records outlast eviction.
    pub(super) pins: HashSet<u64>,
    pub(super) bytes: u64,
    /// Looks at regions of earlier owners that are under way.
    pub(super) loading: u32,
    pub(super) is_direct: bool,
}

impl State {
    pub(super) fn empty(is_direct: bool, pins: HashSet<u64>) -> State {
        State {
            index: Index::new(),
            regions: Regions::default(),
            pages: Pages::default(),
            pins,
            bytes: 0,
            loading: 0,
            is_direct,
        }
    }

    /// The entry of a chunk of these contents, if its bytes may be handed out.
    pub(super) fn find(&self, content: ContentKey, chunk: u32) -> Option<&Entry> {
        let entry = self.index.get(self.index.find(content.file(), chunk)?);
        let is_ours = entry.version == content.version();
        (is_ours && self.region_number(entry.region).is_some()).then_some(entry)
    }

    /// The number of a region whose bytes may be handed out.
    pub(super) fn region_number(&self, at: u16) -> Option<u64> {
        let region = self.regions.get(at)?;
        matches!(region.phase, Phase::Active | Phase::Sealed).then_some(region.number)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        self.bytes += u64::from(entry.len());
        if let Some(replaced) = self.index.insert(entry) {
            self.bytes -= u64::from(replaced.len());
        }
    }

    pub(super) fn remove(&mut self, number: EntryNo) -> Entry {
        let entry = self.index.remove(number);
        self.bytes -= u64::from(entry.len());
        entry
    }

    /// Gives a chunk up whose bytes are not what they should be, unless it is elsewhere by now.
    pub(super) fn remove_at(&mut self, content: ContentKey, chunk: u32, spot: Spot) {
        let Some(number) = self.index.find(content.file(), chunk) else { return };
        let entry = self.index.get(number);
        if entry.content() == content && entry.spot() == spot {
            self.remove(number);
        }
    }

    /// Strikes a record out of its index page, which is here since the record was read for its check; the store's next look
    /// around writes the page.
    pub(super) fn strike(&mut self, content: ContentKey, chunk: u32, spot: Spot) {
        if let Some((page, number)) = self.page_of(spot.home, spot.slot) {
            let is_it = |record: &Record| record.content() == content && record.chunk() == Some(chunk);
            self.pages.strike(page, number, is_it);
        }
    }

    /// Has a record checked again at its next read.
    pub(super) fn doubt(&mut self, entry: &Entry) {
        let Some(number) = self.index.find(entry.content().file(), entry.chunk) else { return };
        if self.index.get(number).spot() == entry.spot() {
            self.index.get_mut(number).set_unverified();
        }
    }

    /// Where an entry's record is among the index pages.
    pub(super) fn page_of(&self, home: u16, slot: u16) -> Option<(PageNo, usize)> {
        let (page, number) = page_of(slot);
        Some((PageNo { region: self.regions.get(home)?.number, page }, number))
    }

    /// Enters a record in the index of region `home`, which has promised it a place, and in memory.
    pub(super) fn enter(&mut self, home: u16, region: u16, record: Record) -> Option<()> {
        let place = record.place();
        let slot = self.regions.get_mut(home)?.take_slot();
        let (page, _) = self.page_of(home, slot)?;
        self.pages.append(page, record);
        let block = u16::try_from(place.block).ok()?;
        let chunk = record.chunk()?;
        let mut entry =
            Entry::new(record.content(), chunk, Spot { region, home, block, slot, len: place.len });
        // The same bytes under another name need no second check.
        if let Some(known) =
            self.index.find(record.content().file(), chunk).map(|number| self.index.get(number))
            && known.is_verified()
            && (known.region, known.block, known.len()) == (region, block, place.len)
        {
            entry.set_verified();
        }
        self.insert(entry);
        Some(())
    }

    /// Whether a record's bytes lie in a region that is here; the region.
    pub(super) fn resolve(&self, record: &Record) -> Option<u16> {
        let at = self.regions.numbered(record.place().region)?;
        self.is_sound(at, record).then_some(at)
    }

    /// Whether a record's bytes can be in the region.
    pub(super) fn is_sound(&self, at: u16, record: &Record) -> bool {
        let place = record.place();
        let is_chunk = place.len > 0 && u64::from(place.len) <= wire::CHUNK_BYTES;
        let region = self.regions.get(at);
        is_chunk && region.is_some_and(|region| region.holds(place.block, blocks_of(place.len)))
    }
}

/// Whole chunks of one file, one after the other in memory.
pub(super) struct Offer {
    pub(super) content: ContentKey,
    pub(super) first: u32,
    pub(super) bytes: Bytes,
}

#[derive(Default)]
struct Offers {
    waiting: VecDeque<Offer>,
    bytes: usize,
    is_closed: bool,
}

/// Offers that wait to be written, bounded by their bytes.
pub(super) struct Queue {
    offers: Mutex<Offers>,
    added: Notify,
    bytes_max: usize,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Queue {
        Queue { offers: Mutex::default(), added: Notify::new(), bytes_max }
    }

    /// Whether it was taken; there is no room otherwise.
    pub(super) fn push(&self, offer: Offer) -> bool {
        let mut offers = self.offers.lock();
        let bytes = offers.bytes + offer.bytes.len();
        if offers.is_closed || (bytes > self.bytes_max && offers.bytes > 0) {
            return false;
        }
        offers.bytes = bytes;
        offers.waiting.push_back(offer);
        drop(offers);
        self.added.notify_one();
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offers.lock().waiting.is_empty()
    }

    /// Ready once there is an offer.
    pub(super) async fn wait(&self) {
        while self.is_empty() {
            self.added.notified().await;
        }
    }

    /// The offers for one write: about `bytes` together and at most `count`.
    pub(super) fn take(&self, bytes: usize, count: usize) -> Vec<Offer> {
        let mut offers = self.offers.lock();
        let (mut taken, mut taken_bytes) = (Vec::new(), 0);
        while taken.len() < count
            && let Some(next) = offers.waiting.front()
            && (taken.is_empty() || taken_bytes + next.bytes.len() <= bytes)
        {
            taken_bytes += next.bytes.len();
            taken.extend(offers.waiting.pop_front());
        }
        offers.bytes -= taken_bytes;
        taken
    }

    /// Takes no more, and lets go of what waits.
    pub(super) fn close(&self) {
        let mut offers = self.offers.lock();
        offers.is_closed = true;
        let dropped = std::mem::take(&mut offers.waiting);
        // Outside the lock: the drop brings slots home to their pool.
        drop(offers);
        drop(dropped);
    }
}
