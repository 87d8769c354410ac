//! Bringing contents onto the disk before anybody reads them: past the cache in memory.

use std::sync::Arc;

use engine::cache::{ContentKey, FileKey, l2::Offered};
use tokio::time::Instant;
use transport::ReadCall;
use wire::{
    ByteLen, CHUNK_BYTES, Class, Extent, FileId, Name, Timestamp, Version, chunk::ChunkIndex, message::Target,
};

use super::{
    HandedOut, Inner, OpenRead, ReadPath,
    content::{Content, Named},
};
use crate::error::VfsError;

/// How often bytes are offered to a disk that has no room for them at the moment.
const OFFERS_MAX: u32 = 3;

/// A file that is to be on the disk.
#[derive(Clone)]
pub struct Warming {
    content: Arc<Content>,
    target: Target,
    kept_as: ContentKey,
}

impl Warming {
    /// The name of its chunks on the disk.
    pub fn key(&self) -> ContentKey {
        self.kept_as
    }
}

impl ReadPath {
    /// A file to be brought to the disk; `None` when its chunks may not be kept there.
    pub fn warming(&self, file: &OpenRead, target: Target) -> Option<Warming> {
        let content = self.content(file, HandedOut::Nothing);
        let kept_as = content.kept_as(&file.version)?;
        Some(Warming { content, target, kept_as })
    }

    /// What the disk knows a file by, whatever its contents; `None` when nothing of it may be kept.
    pub fn file_on_disk(&self, share: &Name, id: &FileId) -> Option<FileKey> {
        let named = Named { host_key: self.0.config.host_key, share: share.as_bytes().into(), id: *id };
        let never = Timestamp { secs: 0, nanos: 0 };
        // The file's key is the same at every version.
        let any = Version { size: ByteLen(0), mtime: never, ctime: never };
        Some(named.kept_as(&any, true)?.file())
    }

    /// Brings an extent of whole chunks, at most 1 MiB, to the disk, unless it is there; how many bytes the host sent
    /// for it. Runs on the lane.
    ///
    /// That the disk took them is seen by [`engine::cache::L2::covered`] after a flush alone.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the file changed, [`VfsError::Deadline`], else what the host or the session said.
    pub async fn warm(&self, file: &Warming, extent: Extent, deadline: Instant) -> Result<u64, VfsError> {
        self.0.warm(file, extent, deadline).await
    }
}

impl Inner {
    async fn warm(&self, file: &Warming, extent: Extent, deadline: Instant) -> Result<u64, VfsError> {
        let Some(disk) = self.config.l2.as_ref() else { return Ok(0) };
        let is_there = || disk.covered(file.kept_as, extent) == extent.len.0;
        if is_there() {
            return Ok(0);
        }
        let (target, version) = (file.target.clone(), file.content.version());
        let read = ReadCall { target, version, extent, class: Class::Warmup, deadline };
        if self.carry_over(disk, file.kept_as, &read).await && is_there() {
            return Ok(0);
        }
        let _held = self.stats.fetches_in_flight.hold();
        let _fetching = self.stats.fetching.hold(Instant::now());
        let slot = self.lend(extent, deadline).await?;
        let asked = self.ask(read, slot, Instant::now()).await;
        let (filled, _) = asked.map_err(|error| VfsError::from(error).about_a_found_file())?;
        let bytes = filled.freeze();
        self.stats.host_readahead_bytes.add(extent.len.0);
        let first = ChunkIndex(extent.start.0 / CHUNK_BYTES);
        for _ in 0..OFFERS_MAX {
            if disk.offer(file.kept_as, first, bytes.clone()) != Offered::Dropped {
                break;
            }
            // The queue is full. A disk that fails says so by what it covers in the end.
            let left = deadline.saturating_duration_since(Instant::now());
            if disk.flush(left).await.is_err() {
                break;
            }
        }
        Ok(extent.len.0)
    }
}
