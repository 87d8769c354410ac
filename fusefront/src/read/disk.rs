//! The read path and L2: blocks from the disk of this machine, and chunks onto it.
//!
//! Chunks on the disk are named by the version they are of, whatever the blocks in memory are named by: contents that
//! moved to a new version hold only what was verified, and the disk may hold more. What it has of another version of
//! the file is carried over once the host has confirmed it, a fetch at a time.

use bytes::Bytes;
use engine::cache::{BlockKey, ContentKey, L2};
use transport::ReadCall;
use uring::{Slot, SlotClass};
use wire::{CHUNK_BYTES, Extent, Version, chunk::ChunkIndex, fingerprint::Fingerprint};

use super::{Inner, content::Content};

/// A chunk of another version that may be in this one.
struct Candidate {
    chunk: ChunkIndex,
    of: ContentKey,
    claim: (Extent, Fingerprint),
}

impl Inner {
    /// The block to fetch for the byte at `at` in place of one that would do.
    ///
    /// In place of a small one its chunk, where that is on the disk and was not checked yet: a chunk is checked as a
    /// whole. In place of an extent one chunk of it where the path is slow, and where the host is away and the disk has
    /// not all of the extent: what it has is to be read.
    pub(super) fn block_to_fetch(
        &self,
        content: &Content,
        version: &Version,
        (key, at): (BlockKey, u64),
    ) -> BlockKey {
        let chunk = SlotClass::Chunk128K;
        let wanted = key.extent(version.size);
        let disk = self.disk_of(content, version);
        if key.class > chunk {
            let is_whole =
                || disk.is_some_and(|(disk, kept_as)| disk.covered(kept_as, wanted) == wanted.len.0);
            let in_chunks = self.goodput.is_slow() || (self.client.loss().is_some() && !is_whole());
            return if in_chunks { BlockKey::at(key.content, chunk, at) } else { key };
        }
        let Some((disk, kept_as)) = disk.filter(|_| key.class < chunk) else { return key };
        match disk.find(kept_as, wanted) {
            Some(found) if found.extent() != wanted => BlockKey::at(key.content, chunk, wanted.start.0),
            _ => key,
        }
    }

    /// Reads a block from the disk; gives the slot back when it is not there, `None` when the disk still has that.
    pub(super) async fn read_disk(
        &self,
        content: &Content,
        read: &ReadCall,
        slot: Slot,
    ) -> Result<Bytes, Option<Slot>> {
        let Some((disk, kept_as)) = self.disk_of(content, &read.version) else { return Err(Some(slot)) };
        let whole = |found: &engine::cache::l2::Found| found.extent() == read.extent;
        let mut found = disk.find(kept_as, read.extent).filter(whole);
        if found.is_none() && self.carry_over(disk, kept_as, read).await {
            found = disk.find(kept_as, read.extent).filter(whole);
        }
        let Some(found) = found else { return Err(Some(slot)) };
        match disk.read(found, slot).await {
            Ok(hit) if hit.extent == read.extent => Ok(hit.bytes),
            // Its end was not what had been written.
            Ok(_) => Err(None),
            Err(miss) => Err(miss.slot),
        }
    }

    /// Hands a block from the host over to the disk, if it is whole chunks and may be kept. Never waits.
    pub(super) fn keep_on_disk(&self, content: &Content, version: &Version, extent: Extent, bytes: &Bytes) {
        let (start, end) = (extent.start.0, extent.end().0);
        let is_whole =
            start.is_multiple_of(CHUNK_BYTES) && (end.is_multiple_of(CHUNK_BYTES) || end == version.size.0);
        if let (true, Some((disk, kept_as))) = (is_whole, self.disk_of(content, version)) {
            // What is not taken is counted there.
            let _ = disk.offer(kept_as, ChunkIndex(start / CHUNK_BYTES), bytes.clone());
        }
    }

    pub(super) fn disk_of(&self, content: &Content, version: &Version) -> Option<(&L2, ContentKey)> {
        let disk = self.config.l2.as_ref()?;
        Some((disk, content.kept_as(version)?))
    }

    /// Asks the host which chunks of other versions are in this one, and renames those; whether there are any.
    ///
    /// Costs the host a read of these chunks and a round trip, where it saves their bytes on the wire.
    pub(super) async fn carry_over(&self, disk: &L2, kept_as: ContentKey, read: &ReadCall) -> bool {
        let candidates = candidates(disk, kept_as, read).await;
        if candidates.is_empty() {
            return false;
        }
        self.stats.verifications.add(1);
        let claims: Vec<_> = candidates.iter().map(|candidate| candidate.claim).collect();
        // A host that cannot say is asked for the bytes next, and that has the error.
        let Ok(equal) = self.verify(&read.target, &read.version, &claims, read.deadline).await else {
            return false;
        };
        let mut carried = 0;
        let confirmed: Vec<_> = candidates
            .iter()
            .zip(equal)
            .filter(|(_, equal)| *equal)
            .map(|(candidate, _)| candidate)
            .collect();
        for run in confirmed.chunk_by(|a, b| a.of == b.of) {
            let chunks = run.iter().map(|candidate| candidate.chunk);
            carried += disk.rekey(run[0].of, kept_as, chunks).await.unwrap_or(0);
        }
        self.stats.l2_carried.add(carried);
        carried > 0
    }
}

/// The chunks of a read that the disk has of another version; none for a read of less than a chunk.
async fn candidates(disk: &L2, kept_as: ContentKey, read: &ReadCall) -> Vec<Candidate> {
    let mut found = Vec::new();
    for index in read.extent.blocks(CHUNK_BYTES) {
        let chunk = ChunkIndex(index);
        let extent = Extent::new(index * CHUNK_BYTES, CHUNK_BYTES).clip(read.version.size);
        if read.extent.intersect(&extent) != Some(extent) || disk.covered(kept_as, extent) == extent.len.0 {
            continue;
        }
        let Some(of) = disk.other_version(kept_as, chunk) else { continue };
        if let Some(hash) = disk.hash_of(of, chunk).await {
            found.push(Candidate { chunk, of, claim: (extent, Fingerprint::Blake3(hash)) });
        }
    }
    found
}
