//! Walks, put to use: the folders that [`super::walks`] names are listed on the lane, each with a lease, as an open of them
//! would do. A program that opens one meanwhile waits for that listing, and one that opens it later finds it in memory.

use tokio::{sync::watch, time::Instant};
use wire::FileKind;

use super::{
    Found, State, Vfs,
    dir::{Page, Pass},
    inode::NodeId,
    leases::{Aftermath, Begun},
    walks::{ListedAhead, Place, Subfolders},
};
use crate::error::VfsError;

/// Entries of a folder that are listed ahead; one with more is left to who opens it.
const ENTRIES_MAX: usize = 8192;
/// Folders looked at in one go for some to be listed.
const LOOKS_MAX: usize = 256;

/// A folder to be listed, its node kept until [`State::listed_ahead`].
struct Job {
    dir: NodeId,
    begun: Begun,
    /// Ends the wait of who opens it meanwhile.
    end: watch::Sender<()>,
}

impl Vfs {
    /// Takes note of a folder being opened, and lists what may be next; what ends when it was listed itself, where that is
    /// under way. Never waits.
    pub(super) fn note_opendir(&self, dir: NodeId) -> Option<watch::Receiver<()>> {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        let (parent, name) = (state.nodes.parent(dir).ok()?, state.nodes.name(dir));
        let listing = state.folders.listing(parent).filter(|_| parent != dir);
        let index = listing.as_ref().zip(name).and_then(|(listing, name)| listing.position(&name));
        let opening = state.walks.opened((parent, dir), index, now);
        let after = if opening.is_met { state.unpin(dir) } else { Aftermath::default() };
        drop(state);
        self.follow(after);
        match (listing, index) {
            (Some(listing), Some(index)) if opening.wants_parent => {
                let vfs = self.clone();
                self.0.lane.spawn(async move {
                    if let Some(folders) = Subfolders::of(&listing) {
                        vfs.0.state.lock().walks.told((parent, folders), index, now);
                        vfs.walk_on();
                    }
                });
            }
            _ => self.walk_on(),
        }
        opening.listed
    }

    /// Ends the walks that nobody was at since `before`.
    pub(super) fn rest_walks(&self, before: Instant) {
        let after = {
            let mut state = self.0.state.lock();
            let gone = state.walks.rest(before);
            state.unpin_all(gone)
        };
        self.follow(after);
    }

    /// Lists what is next, as far as there is room.
    fn walk_on(&self) {
        let (jobs, after) = self.0.state.lock().walk_on(Instant::now());
        self.follow(after);
        for job in jobs {
            let vfs = self.clone();
            self.0.lane.spawn(async move { vfs.list_ahead(job).await });
        }
    }

    async fn list_ahead(&self, Job { dir, begun, end }: Job) {
        let deadline = Instant::now() + self.0.reads.ahead_deadline();
        if let Err(error) = self.take_in(dir, begun, deadline).await {
            tracing::trace!(%error, "a folder was not listed ahead");
        }
        let listing = self.0.state.lock().folders.listing(dir).filter(|listing| !listing.has_linked());
        let listed = listing.map(|of| ListedAhead { bytes: of.bytes(), folders: Subfolders::of(&of) });
        let after = {
            let mut state = self.0.state.lock();
            let is_met = state.walks.ended(dir, listed, Instant::now());
            if is_met { state.unpin(dir) } else { Aftermath::default() }
        };
        self.follow(after);
        drop(end);
        self.walk_on();
    }

    /// Takes all of a folder's listing in, unless it is too long.
    pub(super) async fn take_in(&self, dir: NodeId, begun: Begun, deadline: Instant) -> Result<(), VfsError> {
        let mut count = 0;
        let goes_on = |page: &Page, is_taken| {
            count += page.entries.len();
            is_taken && count <= ENTRIES_MAX
        };
        self.page_through(dir, begun, (deadline, goes_on)).await.map(drop)
    }

    /// Goes through a folder's listing, page by page for as long as `goes_on`, which is told whether memory takes it in; whether
    /// it still did at the end.
    pub(super) async fn page_through(
        &self,
        dir: NodeId,
        begun: Begun,
        (deadline, mut goes_on): (Instant, impl FnMut(&Page, bool) -> bool),
    ) -> Result<bool, VfsError> {
        let target = self.0.target(dir).map(|(target, _)| target);
        let (_, mut page, taking) = self.fetch_begun((dir, target?), begun, deadline).await?;
        let mut pass = Pass::default();
        loop {
            pass.turn_to(&page)?;
            let goes_on = goes_on(&page, taking.is_some());
            if page.end || !goes_on {
                return Ok(goes_on);
            }
            let (target, _) = self.0.target(dir)?;
            (_, page) = self.fetch_page(target, pass.cookie(), deadline).await?;
            if let Some(taking) = taking {
                self.keep_page(dir, taking, &page);
            }
        }
    }
}

impl State {
    fn walk_on(&mut self, now: Instant) -> (Vec<Job>, Aftermath) {
        let gone = self.walks.expire(now);
        let (mut jobs, mut after) = (Vec::new(), self.unpin_all(gone));
        for _ in 0..LOOKS_MAX {
            let Some(place) = self.walks.next_place() else { break };
            jobs.extend(self.begin_ahead(place, &mut after));
        }
        (jobs, after)
    }

    /// Begins to list the folder of a place, if it needs that.
    fn begin_ahead(&mut self, place: Place, after: &mut Aftermath) -> Option<Job> {
        let listing = self.folders.listing(place.parent)?;
        let entry = (place.index < listing.len()).then(|| listing.entry(place.index))?;
        let attr = entry.attr.filter(|attr| attr.kind == FileKind::Directory)?;
        let found = Found { id: Some(attr.id), kind: attr.kind };
        // The kernel knows it from the listing of its parent, unless that was listed ahead too.
        let dir = self.nodes.look_up(place.parent, &entry.name, found).ok()?.node;
        let job = self.begin_ahead_of(place, dir);
        let above = self.leased_above(dir);
        self.nodes.forget(dir, 1);
        after.and(self.let_forgotten_go(dir, above));
        job
    }

    fn begin_ahead_of(&mut self, place: Place, dir: NodeId) -> Option<Job> {
        if self.walks.is_known(dir) || self.folders.listing(dir).is_some() {
            return None;
        }
        let begun = self.begin_listing(dir);
        if begun.taking.is_none() || self.nodes.pin(dir).is_err() {
            return None;
        }
        self.folders.mark_ahead(dir);
        Some(Job { dir, begun, end: self.walks.begin(place, dir) })
    }

    pub(super) fn unpin_all(&mut self, nodes: Vec<NodeId>) -> Aftermath {
        let mut after = Aftermath::default();
        for node in nodes {
            after.and(self.unpin(node));
        }
        after
    }
}
