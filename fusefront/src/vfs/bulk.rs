//! Scans of folders, put to use: what [`super::scan`] wishes for is listed and fetched on the lane.

use std::sync::Arc;

use tokio::time::Instant;
use wire::{Name, message::Target};

use super::{
    Inner, Vfs,
    dir::Pass,
    inode::NodeId,
    scan::{ENTRIES_MAX, Fetch, Item, Part, Shelf, Wish},
};
use crate::{
    error::VfsError,
    read::{FileAhead, OpenRead, ScanId},
};

impl Vfs {
    /// Takes note of a file that was opened. Never waits: what comes of it goes on behind.
    pub(super) fn note_scan(&self, node: NodeId) {
        let opened = {
            let state = self.0.state.lock();
            state.nodes.parent(node).ok().zip(state.nodes.name(node)).and_then(|(dir, name)| {
                // A root of a share has no folder on the host.
                (dir != node).then_some((state.nodes.parent(dir).ok()?, dir, name))
            })
        };
        let Some((parent, dir, name)) = opened else { return };
        let wish = self.0.scans.lock().opened((parent, dir), &name, Instant::now());
        self.grant(wish);
    }

    /// Takes note of a name that memory could not tell of: in a folder beside some that were read in full, more will follow.
    pub(super) fn note_miss(&self, dir: NodeId) {
        let Ok(parent) = self.0.state.lock().nodes.parent(dir) else { return };
        let wish = self.0.scans.lock().looked_up((parent, dir), Instant::now());
        self.grant(wish);
    }

    /// Ends the scans and walks of folders that were left, and calls off what they have on its way.
    pub fn rest_scans(&self, before: Instant) {
        self.rest_walks(before);
        let (ended, wasted) = {
            let mut scans = self.0.scans.lock();
            (scans.rest(before), scans.take_wasted_bytes())
        };
        for dir in ended {
            self.0.reads.call_off_scan(ScanId(dir.0));
        }
        self.0.stats.scan_wasted_bytes.add(wasted);
    }

    fn grant(&self, wish: Option<Wish>) {
        let Some(wish) = wish else { return };
        let vfs = self.clone();
        self.0.lane.spawn(async move {
            match wish {
                Wish::List(dir) => vfs.list_for_scan(dir).await,
                Wish::Fetch(dir, fetches) => vfs.fetch_for_scan(dir, &fetches),
            }
        });
    }

    async fn list_for_scan(&self, dir: NodeId) {
        let deadline = Instant::now() + self.0.reads.ahead_deadline();
        // A folder that cannot be listed is read as it is opened.
        let shelf = self.shelf(dir, deadline).await.ok().flatten();
        let wish = self.0.scans.lock().listed(dir, shelf.map(Arc::new), Instant::now());
        if let Some(Wish::Fetch(dir, fetches)) = wish {
            self.fetch_for_scan(dir, &fetches);
        }
    }

    /// The files of a folder; `None` where they are too many.
    async fn shelf(&self, dir: NodeId, deadline: Instant) -> Result<Option<Shelf>, VfsError> {
        let (target, _) = self.0.target(dir)?;
        let known = self.0.state.lock().folders.listing(dir);
        if let Some(listing) = known {
            let items: Vec<Item> =
                (0..listing.len()).filter_map(|index| Item::of(&listing.entry(index))).collect();
            return Ok(if items.len() > ENTRIES_MAX { None } else { Shelf::new(items) });
        }
        let (mut pass, mut items, mut taking) = (Pass::default(), Vec::new(), None);
        loop {
            let page = match pass.cookie() {
                0 => {
                    let (_, page, begun) = self.fetch_first(dir, target.clone(), deadline).await?;
                    taking = begun;
                    page
                }
                cookie => {
                    let (_, page) = self.fetch_page(target.clone(), cookie, deadline).await?;
                    if let Some(taking) = taking {
                        self.keep_page(dir, taking, &page);
                    }
                    page
                }
            };
            items.extend(page.entries.iter().filter_map(Item::of));
            pass.turn_to(&page)?;
            if items.len() > ENTRIES_MAX {
                return Ok(None);
            }
            if page.end {
                return Ok(Shelf::new(items));
            }
        }
    }

    fn fetch_for_scan(&self, dir: NodeId, fetches: &[Fetch]) {
        let Some(shelf) = self.0.scans.lock().shelf(dir) else { return };
        let Ok((target, share)) = self.0.scan_target(dir) else { return };
        let ahead = |place: usize| {
            let Item { name, id, version } = shelf.item(place).clone();
            let file = OpenRead { share: share.clone(), id, version, settled: true };
            FileAhead { place, name, file }
        };
        let scan = ScanId(dir.0);
        let mut whole = Vec::with_capacity(fetches.len());
        for Fetch { place, part } in fetches {
            match part {
                Part::Whole => whole.push(ahead(*place)),
                Part::Head => self.0.reads.fetch_head(&target, scan, &ahead(*place)),
            }
        }
        let inner = Arc::downgrade(&self.0);
        let lost = move |place| {
            if let Some(inner) = inner.upgrade() {
                inner.scans.lock().failed(dir, place);
            }
        };
        self.0.reads.fetch_files(&target, (scan, whole), lost);
    }
}

impl Inner {
    /// What to name a folder by, and the name of its share.
    fn scan_target(&self, dir: NodeId) -> Result<(Target, Name), VfsError> {
        let (target, _) = self.target(dir)?;
        let state = self.state.lock();
        let share = self.share_name(state.nodes.place(dir)?.1)?.clone();
        Ok((target, share))
    }
}
