//! Small reads from the disk of this machine without the lane: started on the FUSE thread, answered by the ring's.
//!
//! Each thread that hands a read over costs its wake-up: with sixteen readers of 4 KiB the lane took as long as the disk.
//! Only what is sure to be there goes this way: a piece of one chunk that was checked before, with a slot free now. The
//! bytes are not kept in L1: the kernel keeps them, and the disk has them.

use std::sync::Arc;

use bytes::Bytes;
use engine::cache::{BlockKey, l1::Pressure};
use uring::SlotClass;
use wire::{Extent, Version};

use super::{Inner, ReadPath, Reader, content::Served, plan};

impl ReadPath {
    /// Starts a read that the disk of this machine answers by itself; whether it did. `then` gets the bytes on the
    /// ring's thread, where it must neither wait nor panic, or `None` when they are to be had by [`ReadPath::read`]
    /// alone. Never waits; [`ReadPath::read_cached`] comes first.
    ///
    /// The read has no deadline. `then` may be dropped uncalled, also by a read that was not started.
    pub fn read_direct(
        &self,
        reader: &Arc<Reader>,
        extent: Extent,
        then: impl FnOnce(Option<Served>) + Send + 'static,
    ) -> bool {
        self.0.try_direct(reader, extent, then).is_some()
    }
}

impl Inner {
    fn try_direct(
        self: &Arc<Self>,
        reader: &Arc<Reader>,
        extent: Extent,
        then: impl FnOnce(Option<Served>) + Send + 'static,
    ) -> Option<()> {
        let content = reader.content.clone();
        let version = content.current()?;
        let extent = extent.clip(version.size);
        let (disk, kept_as) = self.disk_of(&content, &version)?;
        let is_all = |found: &engine::cache::l2::Found| {
            found.is_plain() && found.extent().intersect(&extent) == Some(extent)
        };
        // First, so that what is not there costs one look.
        let found = disk.find(kept_as, extent).filter(is_all)?;
        self.is_lone(reader, &version, extent).then_some(())?;
        let slot = self.l1.try_lend(found.class(), Pressure::Served)?;
        let path = self.clone();
        let read = disk.read_then(found, slot, move |outcome| {
            let part = outcome.ok().and_then(|hit| part_of(&hit.bytes, hit.extent, extent));
            let served = part.and_then(|bytes| content.serve(&version, extent, bytes));
            if let Some(served) = &served {
                path.stats.l2_bytes.add(served.len() as u64);
            }
            then(served);
        });
        read.ok()
    }

    /// Whether a read is one of the small ones that no other makes cheaper: of one block, which nobody fetches, with
    /// nothing to be fetched ahead of it.
    fn is_lone(&self, reader: &Reader, version: &Version, extent: Extent) -> bool {
        let (start, end) = (extent.start.0, extent.end().0);
        if extent.is_empty() {
            return false;
        }
        let whole = {
            let mut readahead = reader.readahead.lock();
            if readahead.wants_ahead() {
                return false;
            }
            readahead.missed(start);
            readahead.whole(Extent::new(start, 1))
        };
        let class = plan::class_at(start, end, whole, version.size.0);
        let is_one = class < SlotClass::Chunk128K
            && end <= start - start % class.bytes() as u64 + class.bytes() as u64;
        let is_coming = |class| self.flights.contains(&BlockKey::at(reader.content.key(), class, start));
        is_one && !SlotClass::ALL.into_iter().any(is_coming)
    }
}

/// The part of `bytes`, which are those of `of`, that `wanted` names.
fn part_of(bytes: &Bytes, of: Extent, wanted: Extent) -> Option<Bytes> {
    let start = usize::try_from(wanted.start.0.checked_sub(of.start.0)?).ok()?;
    let end = start.checked_add(usize::try_from(wanted.len.0).ok()?)?;
    (end <= bytes.len()).then(|| bytes.slice(start..end))
}
