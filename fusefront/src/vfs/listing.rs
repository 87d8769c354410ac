//! Listing open directories: pages from the host, the next one fetched while this one is served.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use wire::{Attr, Entry, FileId, FileKind, Grant, LeaseId, Reply, Request};

use super::{
    Found, Vfs,
    attr::{NodeAttr, Source},
    dir::{AFTER_DOT_DOT, Ahead, Cursor, FIRST_PAGE_BYTES, OpenDir, PAGE_BYTES, Page, cookie_of},
    folders::{KernelListing, Known, ShownFrom, Taking},
    handle::HandleId,
    inode::NodeId,
    leases::{Asking, Begun},
    shares, unexpected,
};
use crate::error::VfsError;

/// The inode number shown of an entry whose own is not known: what libfuse shows. Zero would hide the entry.
const UNKNOWN_INODE: u64 = 0xffff_ffff;

/// A host that answers sooner is asked for small pages first.
const NEAR_RTT: Duration = Duration::from_millis(1);

/// The numbers of `.` and `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dots {
    /// The directory itself.
    pub dot: u64,
    /// Its parent; the root's is itself.
    pub dot_dot: u64,
}

/// What a listing tells of one entry, lookup counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// Its attributes.
    Known(NodeAttr),
    /// It is there, but the host could not look at it: the kernel must ask again before it uses anything of it.
    Unknown {
        /// Its node.
        node: NodeId,
        /// The node's generation.
        generation: u64,
        /// What the directory says it is.
        kind: FileKind,
    },
}

impl Listed {
    /// Its node, to be forgotten where the entry did not fit.
    pub fn node(&self) -> NodeId {
        match self {
            Listed::Known(attr) => attr.node,
            Listed::Unknown { node, .. } => *node,
        }
    }
}

/// Which page to ask for.
pub(super) struct PageWanted {
    pub(super) cookie: u64,
    /// To be had with it.
    pub(super) lease: Option<LeaseId>,
    pub(super) bytes_max: u32,
}

impl PageWanted {
    /// For who takes the pages in when they are all there.
    pub(super) fn at(cookie: u64) -> PageWanted {
        let bytes_max = if cookie == 0 { FIRST_PAGE_BYTES } else { PAGE_BYTES };
        PageWanted { cookie, lease: None, bytes_max }
    }
}

/// A page that was asked for.
pub(super) struct Fetched {
    /// The directory's own attributes.
    dir: Attr,
    /// What the host says to the wish for a lease.
    grant: Option<Grant>,
    pub(super) page: Arc<Page>,
    /// Else it is what the host said once, from a mount that serves stale data.
    pub(super) is_of_host: bool,
}

impl Vfs {
    /// Opens a directory: its first page comes with the answer, so that a stale directory is told at the open.
    ///
    /// # Errors
    /// [`VfsError::Stale`], [`VfsError::NotDirectory`], else what the host says.
    pub async fn opendir(&self, node: NodeId, deadline: Instant) -> Result<HandleId, VfsError> {
        if self.0.is_folder_of_shares(node) {
            return self.open_folder().await;
        }
        let (target, kind) = self.0.target(node)?;
        if kind != FileKind::Directory {
            return Err(VfsError::NotDirectory);
        }
        if self.0.state.lock().nodes.is_share_root(node) {
            self.note_opendir(node);
            return self.open_root(node, deadline);
        }
        if let Some(mut listed) = self.note_opendir(node) {
            // It ends when the sender is dropped, in error or not.
            let _ = timeout_at(deadline, listed.changed()).await;
            if let Some(handle) = self.open_remembered(node) {
                return Ok(handle);
            }
        }
        let expected = target.id;
        let bytes_max = OpenDir::page_bytes(self.is_near(), None);
        let (dir, first, taking) = self.fetch_first((node, target), bytes_max, deadline).await?;
        if dir.kind != FileKind::Directory || expected.is_some_and(|id| id != dir.id) {
            return Err(VfsError::Stale);
        }
        let mut state = self.0.state.lock();
        state.nodes.pin(node)?;
        state.learn(node, dir);
        let handle = state.handles.add_dir(OpenDir::new(node, dir.id, Some(first.clone())));
        let open = state.handles.dir(handle)?.clone();
        drop(state);
        open.taking(0, || taking);
        if let Some(next) = first.next() {
            self.fetch_ahead(&open, next, deadline);
        }
        Ok(handle)
    }

    /// Opens a directory whose listing memory has.
    pub fn opendir_cached(&self, node: NodeId) -> Option<HandleId> {
        let handle = self.open_remembered(node)?;
        self.note_opendir(node);
        Some(handle)
    }

    fn open_remembered(&self, node: NodeId) -> Option<HandleId> {
        let mut state = self.0.state.lock();
        let listing = state.folders.listing(node).filter(|listing| !listing.has_linked())?;
        let id = match state.nodes.file(node).ok()? {
            (Some(id), FileKind::Directory) if node != NodeId::ROOT => id,
            (_, FileKind::Directory) if node == NodeId::ROOT => state.root.id,
            _ => return None,
        };
        state.nodes.pin(node).ok()?;
        state.folders.meet(node);
        Some(state.handles.add_dir(OpenDir::remembering(node, id, listing)))
    }

    /// What a directory's open, just answered, means for the listing that the kernel keeps. To be asked once for each.
    pub fn kernel_listing(&self, handle: HandleId) -> KernelListing {
        let mut state = self.0.state.lock();
        let Ok(dir) = state.handles.dir(handle).cloned() else { return KernelListing::None };
        let memory = dir.memory();
        let from = match (&memory, dir.taken_in()) {
            (Some(listing), _) => ShownFrom::Memory(listing),
            (None, Some(taking)) => ShownFrom::Host(taking),
            (None, None) => return KernelListing::None,
        };
        state.folders.show(dir.node, &from, Instant::now())
    }

    /// Opens the root of a share without waiting for the host, its first page under way: `df` opens what it is asked
    /// about.
    fn open_root(&self, node: NodeId, deadline: Instant) -> Result<HandleId, VfsError> {
        let mut state = self.0.state.lock();
        let id = match state.nodes.file(node)? {
            (Some(id), _) if node != NodeId::ROOT => id,
            _ => state.root.id,
        };
        state.nodes.pin(node)?;
        let handle = state.handles.add_dir(OpenDir::new(node, id, None));
        let open = state.handles.dir(handle)?.clone();
        drop(state);
        self.fetch_ahead(&open, 0, deadline);
        Ok(handle)
    }

    /// Closes a directory.
    pub fn releasedir(&self, handle: HandleId) {
        let mut state = self.0.state.lock();
        let Some(dir) = state.handles.remove_dir(handle) else { return };
        let after = state.unpin(dir.node);
        drop(state);
        self.follow(after);
    }

    /// Where `offset` goes on, if memory can tell.
    ///
    /// # Errors
    /// [`VfsError::BadHandle`].
    pub fn listing_cached(&self, handle: HandleId, offset: u64) -> Result<Option<Cursor>, VfsError> {
        let dir = self.dir(handle)?;
        if let Some(cursor) = dir.cursor(offset) {
            return Ok(Some(cursor));
        }
        let fresh = || {
            let listing = self.0.state.lock().folders.listing(dir.node);
            listing.filter(|listing| !listing.has_linked())
        };
        let Some(page) = dir.remembered(offset, fresh) else { return Ok(None) };
        dir.turn_to(page.clone())?;
        Ok(Some(Cursor { page, index: 0 }))
    }

    /// Where `offset` goes on, from the host if need be.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the directory is another one by now, else what the host says.
    pub async fn listing(
        &self,
        handle: HandleId,
        offset: u64,
        deadline: Instant,
    ) -> Result<Cursor, VfsError> {
        let dir = self.dir(handle)?;
        let cookie = cookie_of(offset.max(AFTER_DOT_DOT));
        if self.0.is_folder_of_shares(dir.node) {
            let page = self.shares_page(cookie).await;
            dir.turn_to(page.clone())?;
            return Ok(Cursor { page, index: 0 });
        }
        let ahead = match dir.take_ahead(cookie) {
            // A page ahead that failed is asked for again: its deadline was not this reader's.
            Some(ahead) => ahead.outcome.await.ok().and_then(Result::ok),
            None => None,
        };
        let page = match ahead {
            Some(page) => page,
            None => self.fetch_of((dir.node, dir.id, Arc::downgrade(&dir)), cookie, deadline).await?,
        };
        dir.turn_to(page.clone())?;
        if let Some(next) = page.next() {
            self.fetch_ahead(&dir, next, deadline);
        }
        Ok(Cursor { page, index: 0 })
    }

    /// The numbers of `.` and `..` in an open directory.
    ///
    /// # Errors
    /// [`VfsError::BadHandle`], [`VfsError::Stale`].
    pub fn dots(&self, handle: HandleId) -> Result<Dots, VfsError> {
        let node = self.dir(handle)?.node;
        let state = self.0.state.lock();
        let number = |node: NodeId| if node == NodeId::ROOT { state.root.id.inode } else { node.0 };
        Ok(Dots { dot: number(node), dot_dot: number(state.nodes.parent(node)?) })
    }

    /// Counts one lookup of an entry of an open directory, as a listing with attributes does.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when it cannot be a node of this directory; [`VfsError::Protocol`] when the host says
    /// nothing of it.
    pub fn list(&self, handle: HandleId, entry: &Entry) -> Result<Listed, VfsError> {
        let dir = self.dir(handle)?;
        let parent = dir.node;
        let mut state = self.0.state.lock();
        let Some(mut attr) = entry.attr else {
            let kind = entry.kind.ok_or_else(|| VfsError::Protocol {
                reason: "an entry of a listing without kind and attributes".to_owned(),
            })?;
            let found = state.nodes.look_up(parent, &entry.name, Found { id: None, kind })?;
            return Ok(Listed::Unknown { node: found.node, generation: found.generation, kind });
        };
        let source = if dir.is_remembered() { Source::Memory } else { Source::Host };
        let found = if self.0.is_folder_of_shares(parent) {
            let share = shares::share_of(entry).ok_or(VfsError::Stale)?;
            state.nodes.look_up_share(share, &entry.name, attr.id)?
        } else {
            state.nodes.look_up(parent, &entry.name, Found { id: Some(attr.id), kind: attr.kind })?
        };
        // What is known under the lease is newer than the page.
        if let Known::Present(known) = state.folders.find(parent, &entry.name)
            && (known.id, known.kind) == (attr.id, attr.kind)
            && attr.kind != FileKind::Directory
        {
            state.note_listed(found.node, known);
            return Ok(Listed::Known(state.leased_file(found, known)));
        }
        attr = state.leased_attr(found.node).filter(|known| known.id == attr.id).unwrap_or(attr);
        state.note_listed(found.node, attr);
        state.node_attr(found.node, attr, source).map(Listed::Known)
    }

    /// The inode number and kind of an entry of an open directory, as a listing without attributes shows them.
    pub fn list_plain(&self, handle: HandleId, entry: &Entry) -> (u64, FileKind) {
        let Some(attr) = entry.attr else {
            return (UNKNOWN_INODE, entry.kind.unwrap_or(FileKind::Regular));
        };
        let state = self.0.state.lock();
        let parent = state.handles.dir(handle).map(|dir| dir.node).ok();
        let inode = if parent.is_some_and(|parent| self.0.is_folder_of_shares(parent)) {
            let share = shares::share_of(entry);
            share.and_then(|share| state.nodes.share_root_inode(share, &entry.name, &attr.id))
        } else {
            let share = parent.and_then(|parent| state.nodes.share(parent));
            share.and_then(|share| state.nodes.inode(share, &attr.id))
        };
        (inode.unwrap_or(UNKNOWN_INODE), attr.kind)
    }

    fn dir(&self, handle: HandleId) -> Result<Arc<OpenDir>, VfsError> {
        self.0.state.lock().handles.dir(handle).cloned()
    }

    pub(super) async fn fetch_page(
        &self,
        target: wire::message::Target,
        cookie: u64,
        deadline: Instant,
    ) -> Result<(Attr, Arc<Page>), VfsError> {
        let fetched = self.ask_for_page(target, PageWanted::at(cookie), deadline).await?;
        Ok((fetched.dir, fetched.page))
    }

    pub(super) async fn ask_for_page(
        &self,
        target: wire::message::Target,
        PageWanted { cookie, lease, bytes_max }: PageWanted,
        deadline: Instant,
    ) -> Result<Fetched, VfsError> {
        let named = target.clone();
        let request = Request::List { target, cookie, bytes_max, lease };
        let listing = match self.0.call_node(request, deadline).await {
            Ok(Reply::Listing(listing)) => listing,
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => {
                let (dir, page) = self.0.page_away(&named, cookie, error)?;
                return Ok(Fetched { dir, grant: None, page: Arc::new(page), is_of_host: false });
            }
        };
        let page = Page { start: cookie, entries: listing.entries, end: listing.end };
        page.check()?;
        self.0.note_page(named.share, listing.dir, &page);
        Ok(Fetched { dir: listing.dir, grant: listing.grant, page: Arc::new(page), is_of_host: true })
    }

    /// The first page of a directory, with a lease on it if it has none: memory takes the listing in.
    pub(super) async fn fetch_first(
        &self,
        (node, target): (NodeId, wire::message::Target),
        bytes_max: u32,
        deadline: Instant,
    ) -> Result<(Attr, Arc<Page>, Option<Taking>), VfsError> {
        let begun = self.0.state.lock().begin_listing(node);
        self.fetch_begun((node, target), Begun { bytes_max, ..begun }, deadline).await
    }

    /// The same once it was begun.
    pub(super) async fn fetch_begun(
        &self,
        (node, target): (NodeId, wire::message::Target),
        Begun { lease, asked, taking, bytes_max }: Begun,
        deadline: Instant,
    ) -> Result<(Attr, Arc<Page>, Option<Taking>), VfsError> {
        let lease = lease.map(|(lease, after)| {
            self.follow(after);
            lease
        });
        let asking = lease.map(|lease| Asking::new(self, node, lease));
        let Fetched { dir, grant, page, is_of_host } =
            self.ask_for_page(target, PageWanted { cookie: 0, lease, bytes_max }, deadline).await?;
        if let (Some(asking), Some(grant)) = (asking, grant) {
            asking.answered(dir, grant);
        }
        if !is_of_host {
            return Ok((dir, page, None));
        }
        self.0.state.lock().folders.learn_dir(asked, dir);
        if let Some(taking) = taking {
            self.keep_page(node, taking, &page);
        }
        Ok((dir, page, taking))
    }

    /// Whether a round trip costs less than the host's work on a page.
    fn is_near(&self) -> bool {
        Duration::from_micros(self.0.client.stats().rtt_us) < NEAR_RTT
    }

    /// A page of an open directory, which this does not keep open.
    async fn fetch_of(
        &self,
        (node, id, dir): (NodeId, FileId, Weak<OpenDir>),
        cookie: u64,
        deadline: Instant,
    ) -> Result<Arc<Page>, VfsError> {
        let (mut target, _) = self.0.target(node)?;
        target.id = Some(id);
        let before = dir.upgrade().and_then(|dir| dir.entries_before(cookie));
        let bytes_max = OpenDir::page_bytes(self.is_near(), before);
        if cookie == 0 {
            let (_, page, taking) = self.fetch_first((node, target), bytes_max, deadline).await?;
            if let Some(dir) = dir.upgrade() {
                dir.taking(0, || taking);
            }
            return Ok(page);
        }
        let wanted = PageWanted { cookie, lease: None, bytes_max };
        let page = self.ask_for_page(target, wanted, deadline).await?.page;
        if let Some(taking) = dir.upgrade().and_then(|dir| dir.taking(cookie, || None)) {
            self.keep_page(node, taking, &page);
        }
        Ok(page)
    }

    /// Fetches the page at `cookie` behind the reader's back: one at a time.
    fn fetch_ahead(&self, dir: &Arc<OpenDir>, cookie: u64, deadline: Instant) {
        if dir.fetches(cookie) {
            return;
        }
        let (tell, outcome) = oneshot::channel();
        let (vfs, of) = (self.clone(), (dir.node, dir.id, Arc::downgrade(dir)));
        let task = self.0.lane.spawn(async move {
            let page = vfs.fetch_of(of, cookie, deadline).await;
            // Nobody listens any more when the directory was closed.
            let _ = tell.send(page);
        });
        dir.keep_ahead(Ahead { cookie, outcome, abort: task.abort_handle() });
    }
}
