//! Reading: what the store has of an extent, and how it is read into one slot and checked.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::timeout;
use uring::{Done, Filled, ReadAt, Slot, SlotClass, SlotRange};
use wire::chunk::ContentHash;
use wire::{CHUNK_BYTES, Extent};

use super::format::{BLOCK_BYTES, CHUNK, Page, Record, blocks_of};
use super::index::Spot;
use super::pages::PageNo;
use super::shared::{Shared, State};
use super::write::SHORT_MAX;
use crate::cache::key::ContentKey;
use crate::error::one_line;

/// The most that one read gives, and the alignment it does not cross.
const EXTENT_BYTES: u64 = 1 << 20;

/// What the store has of an extent: where it is on the disk, to be read with [`super::L2::read`].
///
/// It holds no lock: what it names may be evicted before it is read, which is a miss then.
#[derive(Debug)]
pub struct Found {
    pub(super) content: ContentKey,
    extent: Extent,
    runs: Vec<Run>,
    /// Bytes of the slot that the runs fill, whole blocks.
    slot_bytes: usize,
}

impl Found {
    /// What a read gives: it starts at or before the start of what was asked for, and may end before or after its end.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Whether one read of the disk gives it, with nothing to check: of a record that was checked before.
    pub fn is_plain(&self) -> bool {
        let [run] = self.runs.as_slice() else { return false };
        run.records.len() == 1 && run.records.iter().all(|part| !part.is_unverified)
    }

    /// The slot that the read takes.
    pub fn class(&self) -> SlotClass {
        SlotClass::for_len(self.slot_bytes).expect("a read gives at most 1 MiB")
    }
}

/// Records that lie one after the other on the disk: one read.
#[derive(Debug)]
struct Run {
    file: Arc<File>,
    region: u16,
    /// The region's number when the place was found: bytes read are its while it has this number.
    number: u64,
    offset: u64,
    range: SlotRange,
    records: Vec<Part>,
}

/// One record of a run.
#[derive(Clone, Copy, Debug)]
struct Part {
    chunk: u32,
    spot: Spot,
    /// Where its bytes start in the slot.
    at: usize,
    /// Whether its hash must be checked; the whole record is read then.
    is_unverified: bool,
}

/// What bytes are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// A program, which makes them worth keeping.
    Reader,
    /// The store itself.
    Upkeep,
}

/// How a part is checked.
#[derive(Clone, Copy, Debug)]
enum Check {
    /// It was, earlier in this life.
    Done,
    Against(ContentHash),
    /// What tells whether it is right is lost.
    Lost,
    /// What tells whether it is right cannot be read now.
    NotNow,
}

/// Why a record is not to be had.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unreadable {
    /// Its page does not hold it.
    Lost,
    /// No slot, or the disk did not answer, or it was evicted.
    NotNow,
}

/// Bytes read from the store.
#[derive(Debug)]
pub struct Hit {
    /// What they are of.
    pub extent: Extent,
    /// The bytes, in the slot that was given.
    pub bytes: Bytes,
}

/// A read that gave nothing.
#[derive(Debug)]
pub struct Miss {
    /// The slot that was given, for the next attempt elsewhere; `None` when the disk still holds it.
    pub slot: Option<Slot>,
}

impl Shared {
    /// See [`super::L2::find`].
    pub(super) fn find(&self, content: ContentKey, wanted: Extent) -> Option<Found> {
        if self.health.no_reads() || wanted.is_empty() {
            return None;
        }
        let start = wanted.start.0;
        let end = wanted.end().0.min((start / EXTENT_BYTES + 1).saturating_mul(EXTENT_BYTES));
        let first = u32::try_from(start / CHUNK_BYTES).ok()?;
        let last = u32::try_from((end - 1) / CHUNK_BYTES).ok()?;
        let state = self.state.lock();
        let mut found = Found { content, extent: Extent::new(0, 0), runs: Vec::new(), slot_bytes: 0 };
        let mut len = 0;
        for chunk in first..=last {
            let Some(entry) = state.find(content, chunk) else { break };
            let at = (chunk - first) as usize * CHUNK;
            let part = Part { chunk, spot: entry.spot(), at, is_unverified: !entry.is_verified() };
            len = at as u64 + u64::from(entry.len());
            found.push(&state, part)?;
            if u64::from(entry.len()) < CHUNK_BYTES {
                break;
            }
        }
        let base = u64::from(first) * CHUNK_BYTES;
        // A chunk that is shorter than where the read starts has none of its bytes.
        if base + len <= start {
            return None;
        }
        found.extent = Extent::new(base, len);
        found.narrow(start, end.min(base + len));
        Some(found)
    }
}

impl Found {
    /// Adds a record, to the last run where it continues it.
    fn push(&mut self, state: &State, part: Part) -> Option<()> {
        let region = state.regions.get(part.spot.region)?;
        let offset = u64::from(part.spot.block) * BLOCK_BYTES as u64;
        let len = blocks_of(part.spot.len) as usize * BLOCK_BYTES;
        self.slot_bytes = part.at + len;
        if let Some(run) = self.runs.last_mut()
            && run.number == region.number
            && run.offset + run.range.len as u64 == offset
        {
            run.range.len += len;
            run.records.push(part);
            return Some(());
        }
        self.runs.push(Run {
            file: Arc::clone(&region.file),
            region: part.spot.region,
            number: region.number,
            offset,
            range: SlotRange { start: part.at, len },
            records: vec![part],
        });
        Some(())
    }

    /// Of one record that was checked before, only the pages that hold `start..end` are read.
    fn narrow(&mut self, start: u64, end: u64) {
        let [run] = self.runs.as_mut_slice() else { return };
        let [part] = run.records.as_slice() else { return };
        if part.is_unverified {
            return;
        }
        let block = BLOCK_BYTES as u64;
        let (from, to) = (start / block * block, end.next_multiple_of(block));
        let skipped = from - self.extent.start.0;
        run.offset += skipped;
        let end = to.min(self.extent.end().0);
        self.extent = Extent::new(from, end - from);
        self.slot_bytes = usize::try_from((end - from).next_multiple_of(block)).unwrap_or(CHUNK);
        run.range = SlotRange::first(self.slot_bytes);
    }
}

impl Shared {
    /// See [`super::L2::read`].
    pub(super) async fn read(&self, found: Found, slot: Slot) -> Result<Hit, Miss> {
        let outcome = self.fill(&found, slot, For::Reader).await;
        self.count(&outcome);
        outcome
    }

    /// See [`super::L2::read_then`].
    pub(super) fn read_then(
        self: &Arc<Self>,
        found: Found,
        slot: Slot,
        then: impl FnOnce(Result<Hit, Miss>) + Send + 'static,
    ) -> Result<(), Slot> {
        let [run] = found.runs.as_slice() else { return Err(slot) };
        let read = ReadAt { file: Arc::clone(&run.file), slot, range: run.range, offset: run.offset };
        let shared = Arc::clone(self);
        let end = move |done: Done| {
            let outcome = shared.end_plain(&found, done);
            shared.count(&outcome);
            then(outcome);
        };
        self.ring.read_then(read, end).map_err(|read| read.slot)
    }

    fn end_plain(&self, found: &Found, Done { result, slot }: Done) -> Result<Hit, Miss> {
        let len = usize::try_from(found.extent.len.0).unwrap_or(usize::MAX);
        match result {
            Ok(n) if n >= len => {
                self.health.read_succeeded();
                self.settle(found, slot.fill(len), (len, &[]), For::Reader)
            }
            // Whoever waits reads it again, the way that goes on after a short read.
            Ok(_) => Err(Miss { slot: Some(slot) }),
            Err(error) => Err(self.read_failed(slot, &one_line(&error)).err().unwrap_or(Miss { slot: None })),
        }
    }

    fn count(&self, outcome: &Result<Hit, Miss>) {
        match outcome {
            Ok(hit) => {
                self.counters.hits.add(1);
                self.counters.hit_bytes.add(hit.extent.len.0);
            }
            Err(_) => self.counters.misses.add(1),
        }
    }

    /// Reads and checks.
    pub(super) async fn fill(&self, found: &Found, slot: Slot, used_for: For) -> Result<Hit, Miss> {
        let checks = self.checks_of(found).await;
        let mut slot = slot;
        for run in &found.runs {
            slot = self.read_run(run, slot).await?;
        }
        self.health.read_succeeded();
        // From here on the bytes are fixed; whether they are the right ones is asked of them, then of the regions.
        let len = usize::try_from(found.extent.len.0).unwrap_or(0);
        let filled = slot.fill(len);
        let mut good = len;
        let mut corrupt = Vec::new();
        for (part, check) in parts(found).zip(checks) {
            let is_wrong = match check {
                Check::Done => continue,
                Check::Against(hash) => {
                    let bytes = &filled.as_ref()[part.at..part.at + part.spot.len as usize];
                    ContentHash::of(bytes) != hash
                }
                Check::Lost => true,
                Check::NotNow => false,
            };
            match check {
                Check::Against(_) if !is_wrong => {}
                _ => good = good.min(part.at),
            }
            if is_wrong {
                corrupt.push(*part);
            }
        }
        self.settle(found, filled, (good, &corrupt), used_for)
    }

    /// Ends a read: what was checked is marked, what is wrong given up, what was evicted meanwhile not handed out.
    fn settle(
        &self,
        found: &Found,
        filled: Filled,
        (good, corrupt): (usize, &[Part]),
        used_for: For,
    ) -> Result<Hit, Miss> {
        let mut state = self.state.lock();
        let is_corrupt = |part: &Part| corrupt.iter().any(|wrong| wrong.chunk == part.chunk);
        let mut good = good;
        for run in &found.runs {
            // The region was given up while its bytes were read: they may be another record's.
            if state.region_number(run.region) != Some(run.number) {
                good = good.min(run.records.first().map_or(0, |part| part.at));
                break;
            }
            for part in run.records.iter().take_while(|part| part.at < good || is_corrupt(part)) {
                if is_corrupt(part) {
                    self.counters.corrupt.add(1);
                    state.remove_at(found.content, part.chunk, part.spot);
                    state.strike(found.content, part.chunk, part.spot);
                } else if let Some(number) = state.index.find(found.content.file(), part.chunk)
                    && state.index.get(number).spot() == part.spot
                {
                    let entry = state.index.get_mut(number);
                    entry.set_verified();
                    if used_for == For::Reader {
                        entry.count_hit();
                    }
                }
            }
        }
        drop(state);
        if good == 0 {
            return Err(Miss { slot: Some(filled.into_slot()) });
        }
        let extent = Extent::new(found.extent.start.0, good as u64);
        let bytes = filled.freeze().slice(..good);
        Ok(Hit { extent, bytes })
    }

    async fn read_run(&self, run: &Run, slot: Slot) -> Result<Slot, Miss> {
        let (mut slot, mut done, mut attempts) = (slot, 0, 0);
        while done < run.range.len {
            let range = SlotRange { start: run.range.start + done, len: run.range.len - done };
            let read = ReadAt { file: Arc::clone(&run.file), slot, range, offset: run.offset + done as u64 };
            let Ok(answer) = timeout(self.read_deadline, self.ring.read_at(read)).await else {
                self.counters.read_errors.add(1);
                self.health.read_failed(&format!("no answer within {:?}", self.read_deadline));
                return Err(Miss { slot: None });
            };
            slot = answer.slot;
            match answer.result {
                // A short read goes on at a whole block.
                Ok(n) if n >= BLOCK_BYTES => (done, attempts) = (done + n / BLOCK_BYTES * BLOCK_BYTES, 0),
                Ok(n) if n > 0 && attempts < SHORT_MAX => attempts += 1,
                Ok(n) => return self.read_failed(slot, &format!("{n} bytes where there should be more")),
                Err(error) => return self.read_failed(slot, &one_line(&error)),
            }
        }
        Ok(slot)
    }

    fn read_failed(&self, slot: Slot, why: &str) -> Result<Slot, Miss> {
        self.counters.read_errors.add(1);
        self.health.read_failed(&why);
        Err(Miss { slot: Some(slot) })
    }

    /// What each part is checked against, in order.
    async fn checks_of(&self, found: &Found) -> Vec<Check> {
        let mut checks = Vec::new();
        for part in parts(found) {
            checks.push(match part.is_unverified {
                false => Check::Done,
                true => match self.record(found.content, part.chunk, part.spot).await {
                    Ok(record) => Check::Against(record.hash()),
                    Err(Unreadable::Lost) => Check::Lost,
                    Err(Unreadable::NotNow) => Check::NotNow,
                },
            });
        }
        checks
    }

    /// The record of a chunk, from its index page.
    pub(super) async fn record(
        &self,
        content: ContentKey,
        chunk: u32,
        spot: Spot,
    ) -> Result<Record, Unreadable> {
        let is_it = |record: &Record| record.content() == content && record.chunk() == Some(chunk);
        let (page, number, file, offset) = {
            let state = self.state.lock();
            let (page, number) = state.page_of(spot.home, spot.slot).ok_or(Unreadable::NotNow)?;
            if let Some(record) = state.pages.record(page, number) {
                return Some(record).filter(is_it).ok_or(Unreadable::Lost);
            }
            let home = state.regions.get(spot.home).ok_or(Unreadable::NotNow)?;
            let offset = home.page_offset(page.page).ok_or(Unreadable::Lost)?;
            (page, number, Arc::clone(&home.file), offset)
        };
        let lent = timeout(self.read_deadline, self.scratch.lend(SlotClass::Page4K)).await;
        let slot = lent.map_err(|_| Unreadable::NotNow)?;
        let read = ReadAt { file, slot, range: SlotRange::first(BLOCK_BYTES), offset };
        let answer = timeout(self.read_deadline, self.ring.read_at(read)).await;
        let answer = answer.map_err(|_| Unreadable::NotNow)?;
        let len = answer.result.map_err(|_| Unreadable::NotNow)?;
        let filled = answer.slot.fill(len);
        self.keep_page(page, filled.as_ref(), number).filter(is_it).ok_or(Unreadable::Lost)
    }

    fn keep_page(&self, at: PageNo, bytes: &[u8], number: usize) -> Option<Record> {
        let page = Page::decode(bytes, at.region, at.page)?;
        self.state.lock().pages.keep(at, page);
        page.records().get(number).copied()
    }
}

fn parts(found: &Found) -> impl Iterator<Item = &Part> {
    found.runs.iter().flat_map(|run| &run.records)
}
