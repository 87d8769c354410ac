//! Fetching what a reader will want next.

use std::sync::Arc;

use engine::cache::{BlockKey, l1::Pressure};
use tokio::time::Instant;
use transport::ReadCall;
use uring::SlotClass;
use wire::{Class, Extent, Version};

use super::{Inner, Reader, flight::AheadFor, for_each_block, plan};
use crate::readahead::{EXTENT_BYTES, Whole};

impl Inner {
    /// Starts the fetches of the reader's window, as many as there are slots to spare. Never waits: a window cut
    /// short is asked for again at the next read.
    pub(super) fn fetch_ahead(self: &Arc<Self>, reader: &Arc<Reader>, version: &Version) {
        let ahead = reader.readahead.lock().ahead();
        let Some((cursor, extents)) = ahead else { return };
        let ahead_for = AheadFor::Cursor { reader: reader.id, cursor };
        for extent in extents {
            if !self.fetch_extent_ahead(reader, version, &extent, ahead_for) {
                break;
            }
            reader.readahead.lock().issued(cursor, &extent);
        }
    }

    /// Whether all of the extent is here or on its way now.
    fn fetch_extent_ahead(
        self: &Arc<Self>,
        reader: &Arc<Reader>,
        version: &Version,
        extent: &Extent,
        ahead_for: AheadFor,
    ) -> bool {
        let end = extent.end().0;
        let is_whole = extent.start.0.is_multiple_of(EXTENT_BYTES)
            && (extent.len.0 == EXTENT_BYTES || end == version.size.0);
        let mut all = true;
        for_each_block(*extent, version.size, |at| {
            let class = match is_whole {
                true => SlotClass::Extent1M,
                false => plan::class_at(at, end, Whole::Never, version.size.0),
            };
            let key = BlockKey::at(reader.content.key(), class, at);
            let key = self.block_to_fetch(&reader.content, version, (key, at));
            all &= self.fetch_block_ahead(reader, version, key, ahead_for);
            Some(key.extent(version.size).end().0)
        });
        all
    }

    /// Whether the block is here or on its way now.
    fn fetch_block_ahead(
        self: &Arc<Self>,
        reader: &Arc<Reader>,
        version: &Version,
        key: BlockKey,
        ahead_for: AheadFor,
    ) -> bool {
        let whole = BlockKey::at(key.content, SlotClass::Extent1M, key.extent(version.size).start.0);
        let is_there = |key| self.l1.get(key).is_some() || self.flights.contains(key);
        if is_there(&key) || is_there(&whole) {
            return true;
        }
        let extent = key.extent(version.size);
        let class = usize::try_from(extent.len.0).ok().and_then(SlotClass::for_len);
        let Some(slot) = class.and_then(|class| self.l1.try_lend(class, Pressure::Served)) else {
            return false;
        };
        // Without a path, the reader's own next read gives the error.
        let Ok(target) = reader.locate.target() else { return false };
        let Some(landing) = self.flights.open_ahead(key, ahead_for) else { return true };
        let deadline = Instant::now() + self.config.ahead_deadline;
        let read = ReadCall { target, version: *version, extent, class: Class::Readahead, deadline };
        let (path, content) = (self.clone(), reader.content.clone());
        let task = self.lane.spawn(async move { path.fetch(landing, &content, read, Some(slot)).await });
        self.flights.on_abort(&key, task.abort_handle());
        true
    }
}
