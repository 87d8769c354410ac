//! Fetching what a sequential reader will want next.

use std::sync::Arc;

use engine::cache::{BlockKey, l1::Pressure};
use tokio::time::Instant;
use transport::ReadCall;
use uring::SlotClass;
use wire::{Class, Version};

use super::{Inner, Reader};
use crate::readahead::EXTENT_BYTES;

impl Inner {
    /// Starts the fetches of the reader's window, as many as there are slots to spare. Never waits: a window cut
    /// short is asked for again at the next read.
    pub(super) fn fetch_ahead(self: &Arc<Self>, reader: &Arc<Reader>, version: &Version) {
        let ahead = reader.readahead.lock().ahead();
        for index in ahead {
            if !self.fetch_extent_ahead(reader, version, index) {
                break;
            }
            reader.readahead.lock().issued(index + 1);
        }
    }

    /// Whether the extent is here or on its way now.
    fn fetch_extent_ahead(self: &Arc<Self>, reader: &Arc<Reader>, version: &Version, index: u64) -> bool {
        let key = BlockKey { content: reader.content.key(), class: SlotClass::Extent1M, index };
        debug_assert_eq!(
            key.class.bytes() as u64,
            EXTENT_BYTES,
            "the read-ahead window counts whole extents"
        );
        if self.l1.get(&key).is_some() || self.flights.contains(&key) {
            return true;
        }
        let extent = key.extent(version.size);
        let class = usize::try_from(extent.len.0).ok().and_then(SlotClass::for_len);
        let Some(slot) = class.and_then(|class| self.l1.try_lend(class, Pressure::Served)) else {
            return false;
        };
        // Without a path, the reader's own next read gives the error.
        let Ok(target) = reader.locate.target() else { return false };
        let Some(landing) = self.flights.open_ahead(key, reader.id) else { return true };
        let deadline = Instant::now() + self.config.ahead_deadline;
        let read = ReadCall { target, version: *version, extent, class: Class::Readahead, deadline };
        let (path, content) = (self.clone(), reader.content.clone());
        let task = self.lane.spawn(async move { path.fetch(landing, &content, read, Some(slot)).await });
        self.flights.on_abort(&key, task.abort_handle());
        true
    }
}
