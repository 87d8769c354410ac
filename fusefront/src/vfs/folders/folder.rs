//! What is known of one directory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;
use wire::{Attr, Name};

use super::{DIRTY_MAX, Folder, FolderListing, NAME_BYTES, Phase, Taken, Taking};

/// A complete listing.
pub(super) struct Listed {
    pub(super) taking: Taking,
    pub(super) entries: Arc<FolderListing>,
    pub(super) dirty: HashSet<Name>,
    /// When the kernel was given it last, to keep.
    pub(super) shown: Option<Instant>,
}

impl Folder {
    /// Whether the host may hold the lease.
    pub(super) fn is_at_the_host(&self) -> bool {
        !matches!(self.phase, Phase::Refused { grant: Some(_), .. })
    }

    /// What a name leads to, several names or not; `None` when that is not known.
    pub(super) fn find(&self, name: &Name) -> Option<Option<Attr>> {
        if let Some(known) = self.names.get(name) {
            return Some(*known);
        }
        if let Some(listed) = &self.listing {
            if listed.dirty.contains(name) {
                return None;
            }
            let Some(index) = listed.entries.position(name) else { return Some(None) };
            return listed.entries.entry(index).attr.map(Some);
        }
        let taken = self.taken.as_ref().filter(|taken| !taken.dirty.contains(name))?;
        taken.entries.entry(taken.entries.position(name)?).attr.map(Some)
    }

    /// Forgets what is known of a name; how many bytes that freed.
    pub(super) fn doubt(&mut self, name: &Name) -> usize {
        let mut freed = 0;
        if self.names.remove(name).is_some() {
            freed += NAME_BYTES + name.as_bytes().len();
            self.bytes -= freed;
        }
        if let Some(listed) = &mut self.listing {
            listed.dirty.insert(name.clone());
            if listed.dirty.len() > DIRTY_MAX {
                let bytes = listed.entries.bytes();
                self.listing = None;
                self.bytes -= bytes;
                freed += bytes;
            }
        }
        if let Some(taken) = &mut self.taken {
            taken.dirty.insert(name.clone());
            if taken.dirty.len() > DIRTY_MAX {
                freed += self.drop_taken();
            }
        }
        freed
    }

    pub(super) fn take_from_start(&mut self, taking: Taking) {
        self.taken = Some(Taken {
            taking,
            asked: self.lease,
            next: 0,
            entries: FolderListing::default(),
            dirty: HashSet::new(),
            shown: None,
        });
    }

    /// The last page is in; how many bytes that freed.
    pub(super) fn complete(&mut self) -> usize {
        let Some(taken) = self.taken.take() else { return 0 };
        let mut freed = self.listing.as_ref().map_or(0, |listed| listed.entries.bytes());
        // What was learnt of a single name may be newer than the listing, but the listing says as much unless it is in
        // doubt.
        let bytes = |name: &Name| NAME_BYTES + name.as_bytes().len();
        self.names.retain(|name, _| {
            let stays = taken.dirty.contains(name);
            freed += if stays { 0 } else { bytes(name) };
            stays
        });
        self.listing = Some(Listed {
            taking: taken.taking,
            entries: Arc::new(taken.entries),
            dirty: taken.dirty,
            shown: taken.shown,
        });
        self.bytes -= freed;
        freed
    }

    /// Forgets what was taken in so far; how many bytes that freed.
    pub(super) fn drop_taken(&mut self) -> usize {
        let freed = self.taken.take().map_or(0, |taken| taken.entries.bytes());
        self.bytes -= freed;
        freed
    }

    /// Forgets all names; how many bytes that freed. What the kernel was told of them stays under the lease.
    pub(super) fn clear(&mut self) -> usize {
        (self.listing, self.taken, self.names) = (None, None, HashMap::new());
        std::mem::take(&mut self.bytes)
    }
}
