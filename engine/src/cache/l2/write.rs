//! Writing: chunks get a place in the active region and go there, neighbours together; their records follow.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinError;
use tokio::time::timeout;
use uring::{Pool, Ring, SlotClass};
use wire::chunk::ContentHash;
use zerocopy::IntoBytes;

use super::format::{BLOCK_BYTES, Page, Place, Record, blocks_of};
use super::store::Store;
use crate::cache::key::ContentKey;
use crate::error::one_line;

/// Bytes of one write at most, about.
pub(super) const WRITE_BYTES_MAX: usize = 1 << 20;
/// Records of one write at most: each takes up to two parts.
pub(super) const RECORDS_MAX: usize = Ring::PARTS_MAX / 2;
/// Operations in a row that move less than a block until the disk is taken for broken.
pub(super) const SHORT_MAX: u32 = 4;
/// A write that takes longer is taken for lost: its region is not written again.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// A chunk on its way to the disk.
pub(super) struct Chunk {
    pub(super) content: ContentKey,
    pub(super) number: u32,
    /// What it was offered in, with its neighbours.
    pub(super) whole: Bytes,
    pub(super) range: Range<usize>,
    pub(super) hash: ContentHash,
}

impl Chunk {
    fn len(&self) -> u32 {
        u32::try_from(self.range.len()).expect("a chunk has at most 128 KiB")
    }
}

/// What is written at once: chunks that lie one after the other in a region.
struct Write {
    region: u16,
    number: u64,
    file: Arc<File>,
    offset: u64,
    bytes: usize,
    parts: Vec<Part>,
    records: Vec<Record>,
}

/// Bytes that lie one after the other in memory.
struct Part {
    whole: Bytes,
    range: Range<usize>,
}

/// A write that ended.
pub(super) struct Written {
    region: u16,
    number: u64,
    records: Vec<Record>,
    result: Result<(), String>,
}

impl Store {
    /// Places chunks in the active region and starts their writes; those that it has no room for are given back.
    pub(super) fn place(&mut self, chunks: Vec<Chunk>) -> Vec<Chunk> {
        let mut write: Option<Write> = None;
        let mut chunks = chunks.into_iter();
        while let Some(chunk) = chunks.next() {
            let full = write
                .as_ref()
                .is_some_and(|write| write.bytes >= WRITE_BYTES_MAX || write.records.len() >= RECORDS_MAX);
            if full {
                self.start(write.take());
            }
            if !self.has_room(&chunk) {
                self.start(write);
                return std::iter::once(chunk).chain(chunks).collect();
            }
            match self.parts_of(&chunk) {
                Some(parts) => self.reserve(&chunk, parts, &mut write),
                None => self.shared.counters.dropped.add(1),
            }
        }
        self.start(write);
        Vec::new()
    }

    /// Whether the active region has a place for a chunk; nobody else takes it meanwhile.
    fn has_room(&self, chunk: &Chunk) -> bool {
        let state = self.shared.state.lock();
        state.regions.active().is_some_and(|(_, region)| region.fits(blocks_of(chunk.len())))
    }

    /// Gives a chunk that has room a place behind the ones before it.
    fn reserve(&self, chunk: &Chunk, parts: Vec<Part>, write: &mut Option<Write>) {
        let blocks = blocks_of(chunk.len());
        let mut state = self.shared.state.lock();
        let Some((at, region)) = state.regions.active_mut() else { return };
        let block = u32::from(region.reserve(blocks));
        let number = region.number;
        let write = write.get_or_insert_with(|| Write {
            region: at,
            number,
            file: Arc::clone(&region.file),
            offset: u64::from(block) * BLOCK_BYTES as u64,
            bytes: 0,
            parts: Vec::new(),
            records: Vec::new(),
        });
        drop(state);
        let place = Place { region: number, block, len: chunk.len() };
        write.records.push(Record::new(chunk.content, chunk.number, place, &chunk.hash));
        write.bytes += blocks as usize * BLOCK_BYTES;
        for part in parts {
            match write.parts.last_mut() {
                Some(last) if last.continues_with(&part) => last.range.end = part.range.end,
                _ => write.parts.push(part),
            }
        }
    }

    /// A chunk's bytes as whole blocks at addresses that direct I/O takes; `None` without a slot for a copy.
    ///
    /// What came in a slot lies right already; only the end of a file that fills no block is copied, and padded.
    fn parts_of(&self, chunk: &Chunk) -> Option<Vec<Part>> {
        let (whole, range) = (chunk.whole.clone(), chunk.range.clone());
        let is_aligned = whole[range.clone()].as_ptr().addr().is_multiple_of(BLOCK_BYTES);
        let as_is = if is_aligned { range.len() / BLOCK_BYTES * BLOCK_BYTES } else { 0 };
        let mut parts = Vec::with_capacity(2);
        if as_is > 0 {
            parts.push(Part { whole: whole.clone(), range: range.start..range.start + as_is });
        }
        if as_is < range.len() {
            let rest = &whole[range.start + as_is..range.end];
            let padded = copy_padded(&self.shared.scratch, rest)?;
            self.shared.counters.copied_bytes.add(rest.len() as u64);
            parts.push(Part { range: 0..padded.len(), whole: padded });
        }
        Some(parts)
    }

    fn start(&mut self, write: Option<Write>) {
        let Some(Write { region, number, file, offset, parts, records, .. }) = write else { return };
        let ring = self.shared.ring.clone();
        let parts = parts.into_iter().map(|part| part.whole.slice(part.range)).collect();
        self.writes.spawn(async move {
            let result = write_all(&ring, file, parts, offset).await;
            Written { region, number, records, result }
        });
    }

    /// Enters what was written in the index: its bytes are on the disk before its record is.
    pub(super) async fn written(&mut self, written: Result<Written, JoinError>) {
        let Ok(Written { region, number, records, result }) = written else { return };
        let count = records.len() as u64;
        if let Err(why) = result {
            self.shared.counters.write_errors.add(1);
            self.shared.counters.dropped.add(count);
            if let Some(region) = self.shared.state.lock().regions.get_mut(region) {
                region.is_lost |= region.number == number;
            }
            return self.shared.health.write_failed("writing", &why);
        }
        self.shared.health.write_succeeded();
        let mut bytes = 0;
        {
            let mut state = self.shared.state.lock();
            if state.regions.get(region).is_none_or(|there| there.number != number) {
                return;
            }
            for record in records {
                bytes += u64::from(record.place().len);
                state.enter(region, region, record);
            }
        }
        self.shared.counters.written.add(count);
        self.shared.counters.written_bytes.add(bytes);
        self.flush_pages(true).await;
    }

    /// Writes index pages: the full ones, or all that hold something new. One at a time, so that an older state of a
    /// page never follows a newer one.
    pub(super) async fn flush_pages(&mut self, full_only: bool) {
        let pages = self.shared.state.lock().pages.dirty(full_only);
        for at in pages {
            let taken = {
                let mut state = self.shared.state.lock();
                let home = state.regions.numbered(at.region);
                let place = home.and_then(|home| {
                    let region = state.regions.get(home)?;
                    Some((Arc::clone(&region.file), region.page_offset(at.page)?))
                });
                let page = state.pages.take_dirty(at);
                place.zip(page)
            };
            let Some(((file, offset), page)) = taken else { continue };
            if let Err(why) = self.write_at(file, vec![aligned_copy(&page)], offset).await {
                self.shared.counters.write_errors.add(1);
                return self.shared.health.write_failed("writing its index", &why);
            }
        }
        if self.writes.is_empty() {
            let mut state = self.shared.state.lock();
            let active = state.regions.active().map(|(_, region)| region.number);
            state.pages.grow_only(active);
        }
    }
}

impl Part {
    fn continues_with(&self, next: &Part) -> bool {
        self.whole.as_ptr() == next.whole.as_ptr()
            && self.whole.len() == next.whole.len()
            && self.range.end == next.range.start
    }
}

/// Writes all of it, again from where a short write ended.
pub(super) async fn write_all(
    ring: &Ring,
    file: Arc<File>,
    parts: Vec<Bytes>,
    offset: u64,
) -> Result<(), String> {
    let (mut parts, mut offset, mut attempts) = (parts, offset, 0);
    while !parts.is_empty() {
        let writing = ring.write_parts_at(Arc::clone(&file), parts.clone(), offset);
        let written = match timeout(WRITE_DEADLINE, writing).await {
            Ok(Ok(n)) => n / BLOCK_BYTES * BLOCK_BYTES,
            Ok(Err(error)) => return Err(one_line(&error)),
            Err(_) => return Err(format!("no answer within {WRITE_DEADLINE:?}")),
        };
        // What does not fill a block is written again.
        attempts = if written == 0 { attempts + 1 } else { 0 };
        if attempts == SHORT_MAX {
            return Err("the disk takes no more bytes".to_owned());
        }
        offset += written as u64;
        let mut skip = written;
        parts.retain_mut(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            *part = part.slice(skipped..);
            !part.is_empty()
        });
    }
    Ok(())
}

/// A copy in a slot of its own, with zeros up to a whole block.
fn copy_padded(pool: &Pool, bytes: &[u8]) -> Option<Bytes> {
    let len = bytes.len().next_multiple_of(BLOCK_BYTES);
    let mut slot = pool.try_lend(SlotClass::for_len(len)?)?;
    let into = &mut slot.bytes_mut()[..len];
    into[..bytes.len()].copy_from_slice(bytes);
    into[bytes.len()..].fill(0);
    Some(slot.fill(len).freeze())
}

/// A page at an address that direct I/O takes. Not in a slot: the index must not wait for the pool.
fn aligned_copy(page: &Page) -> Bytes {
    let mut bytes = vec![0; 2 * BLOCK_BYTES - 1];
    let start = bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES - 1);
    bytes[start..start + BLOCK_BYTES].copy_from_slice(page.as_bytes());
    Bytes::from(bytes).slice(start..start + BLOCK_BYTES)
}
