//! Scans of folders, put to use: what [`super::scan`] wishes for is listed and fetched on the lane.

use std::sync::Arc;

use tokio::time::Instant;
use wire::{Entry, FileKind, Name, message::Target};

use super::{
    Found, Inner, State, Vfs,
    dir::Page,
    folders::FolderListing,
    inode::NodeId,
    scan::{ENTRIES_MAX, FOLDERS_AHEAD_MAX, Fetch, Item, Next, Part, Scans, Shelf, Wish},
    walks::{Order, Subfolders},
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
        self.grant(self.with_scans(|scans| scans.opened((parent, dir), &name, Instant::now())));
    }

    /// Takes note of a name that memory could not tell of: in a folder beside some that were read in full, more will follow.
    pub(super) fn note_miss(&self, dir: NodeId) {
        let Ok(parent) = self.0.state.lock().nodes.parent(dir) else { return };
        self.grant(self.with_scans(|scans| scans.looked_up((parent, dir), Instant::now())));
    }

    /// Ends the scans and walks of folders that were left, and calls off what they have on its way.
    pub fn rest_scans(&self, before: Instant) {
        self.rest_walks(before);
        let (ended, let_go, wasted) = {
            let mut scans = self.0.scans.lock();
            (scans.rest(before), scans.take_let_go(), scans.take_wasted_bytes())
        };
        for dir in ended {
            self.0.reads.call_off_scan(ScanId(dir.0));
        }
        self.0.stats.scan_wasted_bytes.add(wasted);
        self.let_go(let_go);
    }

    /// Does something to the scans; then ends the hold on the folders that are not ahead any more by that.
    fn with_scans<T>(&self, act: impl FnOnce(&mut Scans) -> T) -> T {
        let (outcome, let_go) = {
            let mut scans = self.0.scans.lock();
            (act(&mut scans), scans.take_let_go())
        };
        self.let_go(let_go);
        outcome
    }

    /// Ends the hold on the nodes of folders that are not ahead any more.
    fn let_go(&self, dirs: Vec<NodeId>) {
        if !dirs.is_empty() {
            let after = self.0.state.lock().unpin_all(dirs);
            self.follow(after);
        }
    }

    fn grant(&self, wishes: Vec<Wish>) {
        for wish in wishes {
            let vfs = self.clone();
            self.0.lane.spawn(async move {
                match wish {
                    Wish::List(dir) => vfs.list_for_scan(dir).await,
                    Wish::Fetch(dir, fetches) => vfs.fetch_for_scan(dir, &fetches),
                    Wish::Expect(next) => vfs.expect_folders(next).await,
                }
            });
        }
    }

    /// Finds the folders that follow, and fetches their files before anybody comes to them.
    async fn expect_folders(&self, next: Next) {
        let Some(listing) = self.listing_of(next.parent).await else { return };
        let Some(folders) = Subfolders::of(&listing) else { return };
        let (order, dirs) = self.0.state.lock().keep_following(&next, &listing, &folders);
        let taken = self.with_scans(|scans| {
            if let Some(order) = order {
                scans.note_order(next.parent, order);
            }
            scans.expect(next.parent, &dirs, Instant::now())
        });
        self.let_go(dirs.into_iter().filter(|dir| !taken.contains(dir)).collect());
        for dir in taken {
            let vfs = self.clone();
            self.0.lane.spawn(async move { vfs.list_for_scan(dir).await });
        }
    }

    /// A folder's listing, taken in if it is not there; `None` where it cannot be had.
    async fn listing_of(&self, dir: NodeId) -> Option<Arc<FolderListing>> {
        let known = self.0.state.lock().folders.listing(dir);
        if known.is_some() {
            return known;
        }
        let deadline = Instant::now() + self.0.reads.ahead_deadline();
        let begun = self.0.state.lock().begin_listing(dir);
        begun.taking?;
        if let Err(error) = self.take_in(dir, begun, deadline).await {
            tracing::trace!(%error, "the folders of a folder are not known");
        }
        self.0.state.lock().folders.listing(dir)
    }

    async fn list_for_scan(&self, dir: NodeId) {
        let deadline = Instant::now() + self.0.reads.ahead_deadline();
        // A folder that cannot be listed is read as it is opened.
        let shelf = self.shelf(dir, deadline).await.ok().flatten();
        let wish = self.with_scans(|scans| scans.listed(dir, shelf.map(Arc::new), Instant::now()));
        if let Some(Wish::Fetch(dir, fetches)) = wish {
            self.fetch_for_scan(dir, &fetches);
        }
    }

    /// The files of a folder; `None` where they are too many.
    async fn shelf(&self, dir: NodeId, deadline: Instant) -> Result<Option<Shelf>, VfsError> {
        let known = self.0.state.lock().folders.listing(dir);
        if let Some(listing) = known {
            let items: Vec<Item> =
                (0..listing.len()).filter_map(|index| Item::of(&listing.entry(index))).collect();
            return Ok(if items.len() > ENTRIES_MAX { None } else { Shelf::new(items) });
        }
        let begun = self.0.state.lock().begin_listing(dir);
        let mut items = Vec::new();
        let goes_on = |page: &Page, _| {
            items.extend(page.entries.iter().filter_map(Item::of));
            items.len() <= ENTRIES_MAX
        };
        let is_whole = self.page_through(dir, begun, (deadline, goes_on)).await?;
        Ok(if is_whole { Shelf::new(items) } else { None })
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

impl State {
    /// The order of the last step, and the nodes of the folders that follow, each kept.
    fn keep_following(
        &mut self,
        next: &Next,
        listing: &FolderListing,
        folders: &Subfolders,
    ) -> (Option<Order>, Vec<NodeId>) {
        let place = |state: &State, dir: NodeId| {
            let name = state.nodes.name(dir).filter(|_| state.nodes.parent(dir) == Ok(next.parent))?;
            folders.place(listing.position(&name)?)
        };
        let Some(last) = place(self, next.last) else { return (None, Vec::new()) };
        let before = next.before.and_then(|dir| place(self, dir));
        let step = folders.order(before, last);
        // One step says more than none before it.
        let order = step.filter(|_| next.order == Order::Listing).unwrap_or(next.order);
        let mut kept = Vec::new();
        // Some of those that follow may be ahead already.
        let ranks = (folders.rank(last, order) + 1..folders.len()).take(2 * FOLDERS_AHEAD_MAX);
        for index in ranks.filter_map(|rank| folders.at_rank(rank, order)) {
            kept.extend(self.keep_folder(next.parent, &listing.entry(index)));
        }
        (step, kept)
    }

    fn keep_folder(&mut self, parent: NodeId, entry: &Entry) -> Option<NodeId> {
        let attr = entry.attr.filter(|attr| attr.kind == FileKind::Directory)?;
        let found = Found { id: Some(attr.id), kind: attr.kind };
        let node = self.nodes.look_up(parent, &entry.name, found).ok()?.node;
        let is_kept = self.nodes.pin(node).is_ok();
        self.nodes.forget(node, 1);
        is_kept.then_some(node)
    }
}

impl Inner {
    /// What to name a folder by, and the name of its share.
    fn scan_target(&self, dir: NodeId) -> Result<(Target, Name), VfsError> {
        let (target, _) = self.target(dir)?;
        let state = self.state.lock();
        let share = self.share_name(state.nodes.share_name(dir)?.1)?.clone();
        Ok((target, share))
    }
}
