//! Reads: bytes of one version of a file, in a slot that goes to the network as it is.

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use rustix::fs::{SeekFrom, seek};
use tokio::time::{Instant, timeout_at};
use uring::{CachedRead, Filled, ReadAt, RingError, Slot, SlotClass, SlotRange};
use wire::{CHUNK_BYTES, ErrorCode, Extent, Version, limits};

use crate::{
    disk::{Asked, Disk},
    error::Fault,
    files::OpenFile,
};

/// Pieces a read may come back in before it counts as failing: one is usual, each adds a byte at least.
const PIECES_MAX: u32 = 64;

impl Disk {
    /// The bytes of `extent`, all of them, of exactly `version`.
    ///
    /// The version is compared before and after, so that a change meanwhile is an error and never a mixture. A write
    /// that had begun before is waited for in between: it moves the times when it begins, and not again.
    pub(crate) async fn read(&self, asked: &Asked, version: Version, extent: Extent) -> Result<Bytes, Fault> {
        let too_long = extent.len.0 > limits::READ_BYTES_MAX;
        if too_long || extent.end().0 > version.size.0 {
            return Err(Fault::with(ErrorCode::Invalid, format!("{extent} of a file of {}", version.size)));
        }
        let open = self.open(asked).await?;
        let look = self.look(&open, asked.deadline).await?;
        if look.version() != version {
            return Err(changed());
        }
        if extent.is_empty() {
            return Ok(Bytes::new());
        }
        if look.may_be_written() {
            let file = Arc::clone(&open.file);
            let wait = move || {
                await_writer(&file, extent.start.0);
                Ok(())
            };
            self.work.run(asked.deadline, wait).await?;
        }
        let class = SlotClass::for_len(slot_len(extent)?).ok_or_else(|| Fault::new(ErrorCode::Invalid))?;
        let slot = self.slot(class, asked).await?;
        let filled = self.fill(slot, &open, extent, asked).await?;
        if self.look(&open, asked.deadline).await?.version() != version {
            return Err(changed());
        }
        self.metrics.read_bytes.increment(extent.len.0);
        Ok(filled.freeze())
    }

    /// A slot of the pool; the wait ends with the request.
    pub(crate) async fn slot(&self, class: SlotClass, asked: &Asked) -> Result<Slot, Fault> {
        match self.pool.try_lend(class) {
            Some(slot) => Ok(slot),
            None => {
                self.metrics.slot_waits.increment(1);
                let lent = timeout_at(asked.deadline, self.pool.lend(class));
                asked.stalls.memory.watch(lent).await.map_err(|_| Fault::late("free buffer"))
            }
        }
    }

    /// Fills the slot with the extent, which it holds: what the page cache has on this thread, the rest through the ring.
    async fn fill(
        &self,
        mut slot: Slot,
        open: &OpenFile,
        extent: Extent,
        asked: &Asked,
    ) -> Result<Filled, Fault> {
        let len = slot_len(extent)?;
        let offset = extent.start.0;
        let mut filled = self.fill_cached(open, &mut slot.bytes_mut()[..len], offset)?;
        self.metrics.cached_bytes.increment(filled as u64);
        let mut pieces = 0;
        while filled < len {
            let range = SlotRange { start: filled, len: len - filled };
            let read = ReadAt { file: Arc::clone(&open.file), slot, range, offset: offset + filled as u64 };
            let done = timeout_at(asked.deadline, self.ring.read_at(read));
            let done = asked.stalls.disk.watch(done).await.map_err(|_| Fault::late("answer of the disk"))?;
            slot = done.slot;
            match done.result.map_err(fault_of)? {
                // The end, before the end that the version names.
                0 => return Err(changed()),
                n => filled += n,
            }
            pieces += 1;
            if pieces > PIECES_MAX {
                return Err(Fault::with(ErrorCode::Io, "the disk returns a read in too many pieces"));
            }
        }
        Ok(slot.fill(len))
    }
}

impl Disk {
    /// Copies what the page cache has of it, from its start on; how much that is.
    fn fill_cached(&self, open: &OpenFile, into: &mut [u8], offset: u64) -> Result<usize, Fault> {
        let is_large = into.len() as u64 >= CHUNK_BYTES;
        if is_large && !open.pace.is_quick() {
            return Ok(0);
        }
        // The clock is for large reads alone: of small ones it would be a part.
        let begun = is_large.then(Instant::now);
        let read = self.ring.read_cached(&open.file, into, offset)?;
        if let Some(begun) = begun {
            open.pace.took(begun.elapsed());
        }
        Ok(match read {
            CachedRead::Filled(filled) => filled,
            CachedRead::Miss => 0,
        })
    }
}

/// Waits until no write to the file is under way.
///
/// Looking for data takes the inode's lock, which a writer holds to its end (ext4, btrfs, tmpfs; on xfs the read itself
/// does so). What it finds, or that the file system cannot look, is of no matter.
pub(crate) fn await_writer(file: &File, near: u64) {
    let _ = seek(file, SeekFrom::Data(near));
}

fn slot_len(extent: Extent) -> Result<usize, Fault> {
    usize::try_from(extent.len.0).map_err(|_| Fault::new(ErrorCode::Invalid))
}

/// The file is not as it was asked for.
pub(crate) fn changed() -> Fault {
    Fault::with(ErrorCode::Stale, "the file is of another version")
}

fn fault_of(error: RingError) -> Fault {
    match error {
        RingError::Io { source, .. } => source.into(),
        RingError::Stopped => Fault::new(ErrorCode::Stopping),
        other => Fault::with(ErrorCode::Io, other.to_string()),
    }
}
