//! Open files: which version a handle reads, and what its open means for the kernel's pages and older handles.

use std::sync::Arc;

use tokio::time::Instant;
use wire::{Attr, Extent, FileKind};

use super::{
    By, Inner, State, Vfs,
    away::Asked,
    handle::{HandleId, NodeLocation, OpenFile},
    inode::{NodeId, Pages},
    leases::Aftermath,
};
use crate::{
    error::VfsError,
    read::{
        HandedOut, OpenRead,
        content::{Content, Served},
    },
};

/// Looks at a file that changes at every look before an open takes it as it is.
const OPEN_TURNS_MAX: u32 = 8;

/// Closed files whose contents are remembered, so that a change on the host before they are opened again need not drop
/// what is cached of them.
pub(super) const CLOSED_MAX: usize = 1024;

/// What an open found.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub handle: HandleId,
    /// Whether the pages that the kernel holds of this file are of the version opened.
    pub keep_pages: bool,
    /// The bytes of those pages, where they were given with this open: to be dropped once it is answered.
    pub filled: Option<Served>,
}

/// Whether reads of a handle go through the kernel's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelPages {
    /// They do.
    Used,
    /// They do not (`O_DIRECT`).
    Bypassed,
}

impl Vfs {
    /// Opens a file for reading, at the version it has on the host now (close-to-open).
    ///
    /// # Errors
    /// [`VfsError::Stale`] when another file has the node's name by now, [`VfsError::IsDirectory`], else what the host
    /// says.
    pub async fn open(
        &self,
        node: NodeId,
        pages: KernelPages,
        deadline: Instant,
    ) -> Result<Opened, VfsError> {
        let (_, kind) = self.0.state.lock().nodes.file(node)?;
        if kind == FileKind::Directory {
            return Err(VfsError::IsDirectory);
        }
        match self.open_now(node, pages, deadline).await {
            Ok(opened) => {
                self.note_scan(node);
                Ok(opened)
            }
            Err(error) => {
                self.0.state.lock().doubt_if_stale(node, &error);
                self.open_away(node, error)
            }
        }
    }

    /// Opens a file at the version that memory knows under a lease, if that is settled, nothing else is held of it and no
    /// push told of a change lately, since the next one may be on its way; also whether the kernel may have been told other
    /// attributes, which it is to drop before this is answered.
    pub fn open_cached(&self, node: NodeId, pages: KernelPages) -> Option<(Opened, bool)> {
        let mut state = self.0.state.lock();
        let attr = state.leased_attr(node).filter(|attr| attr.kind != FileKind::Directory && attr.settled)?;
        let held = state.nodes.content(node);
        if state.is_disputed(node, &attr)
            || held.as_ref().is_some_and(|held| !held.is_settled())
            || self.0.filling.contains(node)
            || state.changed_lately(node, Instant::now())
        {
            return None;
        }
        // As below: a share that is gone makes every name stale.
        let (share, name) = state.nodes.share_name(node).ok()?;
        let name = self.0.share_name(name).ok()?.clone();
        if !state.has_share(&self.0, share, &name) {
            return None;
        }
        let location = NodeLocation { mount: Arc::downgrade(&self.0), node, id: attr.id };
        let (mut opened, outdated) = state.open(node, attr, (&self.0, location)).ok()?;
        let may_fill = pages == KernelPages::Used && held.is_none() && !opened.keep_pages && !outdated;
        if may_fill {
            self.0.filling.begin(node);
        }
        drop(state);
        if may_fill {
            opened.filled = self.fill(node, opened.handle);
            opened.keep_pages = opened.filled.is_some();
        }
        self.note_scan(node);
        Some((opened, outdated))
    }

    /// Makes the kernel ask for a node's attributes before an open of it is answered: it would cut the first reads at the
    /// size it was told before. Not for a thread that answers the kernel.
    pub fn drop_attr(&self, node: NodeId) {
        if let Some(kernel) = self.0.kernel.get() {
            kernel.drop_attr(node);
        }
    }

    async fn open_now(
        &self,
        node: NodeId,
        pages: KernelPages,
        deadline: Instant,
    ) -> Result<Opened, VfsError> {
        let mut turn = 0;
        let (mut opened, outdated, may_fill) = loop {
            turn += 1;
            let asking = self.0.state.lock().asking(node);
            let attr = self.0.stat_node(node, By::Name, deadline).await?;
            self.0.state.lock().learn_leased(asking, attr);
            let location = NodeLocation { mount: Arc::downgrade(&self.0), node, id: attr.id };
            self.move_contents(node, &attr, &location, deadline).await?;
            self.0.filling.wait(node, deadline).await?;
            let mut state = self.0.state.lock();
            if self.0.filling.contains(node) {
                continue;
            }
            // The file changed again after the look at it, or the contents moved on for another reader: neither is a
            // reason to take the open handles' bytes for gone.
            if turn >= OPEN_TURNS_MAX || !state.is_disputed(node, &attr) {
                // Who holds the file open holds contents.
                let is_alone = state.nodes.content(node).is_none();
                let (opened, outdated) = state.open(node, attr, (&self.0, location))?;
                let may_fill =
                    pages == KernelPages::Used && is_alone && attr.settled && !opened.keep_pages && !outdated;
                if may_fill {
                    self.0.filling.begin(node);
                }
                break (opened, outdated, may_fill);
            }
        };
        if outdated {
            self.drop_attr(node);
        }
        if may_fill {
            opened.filled = self.fill(node, opened.handle);
            opened.keep_pages = opened.filled.is_some();
        }
        Ok(opened)
    }

    /// Brings the contents that the kernel holds pages of to the host's version, if what was read of them is unchanged.
    async fn move_contents(
        &self,
        node: NodeId,
        attr: &Attr,
        location: &NodeLocation,
        deadline: Instant,
    ) -> Result<(), VfsError> {
        let Some(content) = self.0.state.lock().nodes.content(node) else { return Ok(()) };
        let settled_since = attr.settled && !content.is_settled();
        if content.is_stale() || (content.version() == attr.version() && !settled_since) {
            return Ok(());
        }
        content.suspect();
        match self.0.reads.revalidate(&content, location, deadline).await {
            // Stale: another file's bytes, to the kernel's pages. This open replaces them.
            Ok(()) | Err(VfsError::Stale) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The bytes of an open file if memory has them all, cut at the end of the file. Each read comes here first.
    ///
    /// # Errors
    /// [`VfsError::BadHandle`], [`VfsError::Stale`].
    pub fn read_cached(&self, handle: HandleId, extent: Extent) -> Result<Option<Served>, VfsError> {
        let file = self.file(handle)?;
        file.note_dropped();
        if file.reader.content().is_stale() {
            return Err(VfsError::Stale);
        }
        let served = self.0.reads.read_cached(&file.reader, extent);
        if let Some(served) = &served {
            self.count_read(served);
        }
        Ok(served)
    }

    /// Starts a read that the disk of this machine answers by itself, if it can; whether it did. See
    /// [`crate::read::ReadPath::read_direct`].
    pub fn read_direct(
        &self,
        handle: HandleId,
        extent: Extent,
        then: impl FnOnce(Option<Served>) + Send + 'static,
    ) -> bool {
        let Ok(file) = self.file(handle) else { return false };
        let vfs = self.clone();
        self.0.reads.read_direct(&file.reader, extent, move |served| {
            if let Some(served) = &served {
                vfs.count_read(served);
            }
            then(served);
        })
    }

    /// The bytes of an open file from wherever they are: all up to the end of the file, or an error.
    ///
    /// # Errors
    /// [`VfsError::Stale`] once bytes that were read are not in the host's file any more, [`VfsError::Deadline`], else
    /// what the host says.
    pub async fn read(
        &self,
        handle: HandleId,
        extent: Extent,
        deadline: Instant,
    ) -> Result<Served, VfsError> {
        let asked = Asked::Bytes(handle, extent);
        if self.0.is_asked_again(&asked) {
            return Err(VfsError::Deadline);
        }
        let file = self.file(handle)?;
        let outcome = self.0.reads.read(file.reader.clone(), extent, deadline).await;
        match &outcome {
            Ok(served) => self.count_read(served),
            Err(error) => self.0.state.lock().failed.note(asked, error, Instant::now()),
        }
        outcome
    }

    /// Closes a file.
    pub fn release(&self, handle: HandleId) {
        let mut state = self.0.state.lock();
        let file = state.handles.remove_file(handle);
        let (mut forgotten, mut after) = (None, Aftermath::default());
        if let Some(file) = &file {
            after = state.unpin(file.node);
            state.closed.push_back((file.node, file.reader.content().clone()));
            if state.closed.len() > CLOSED_MAX {
                forgotten = state.closed.pop_front();
            }
            if let Some((node, content)) = &forgotten {
                state.nodes.let_go(*node, content);
            }
        }
        drop(state);
        self.follow(after);
        // Outside the lock: the last reader calls its read-ahead off.
        drop((file, forgotten));
    }

    pub(super) fn file(&self, handle: HandleId) -> Result<Arc<OpenFile>, VfsError> {
        self.0.state.lock().handles.file(handle).cloned()
    }

    pub(super) fn count_read(&self, served: &Served) {
        self.0.stats.reads.add(1);
        self.0.stats.read_bytes.add(served.len() as u64);
    }
}

impl State {
    /// Adds the handle; also whether the kernel may have been told other attributes than these.
    pub(super) fn open(
        &mut self,
        node: NodeId,
        attr: Attr,
        (mount, location): (&Inner, NodeLocation),
    ) -> Result<(Opened, bool), VfsError> {
        self.nodes.pin(node)?;
        let (content, keep_pages) = self.contents_for(node, &attr, mount)?;
        let reader = mount.reads.open(content, Arc::new(location));
        let outdated = self.tell(node, attr);
        let handle = self.handles.add_file(OpenFile::new(node, reader, keep_pages));
        Ok((Opened { handle, keep_pages, filled: None }, outdated))
    }

    /// Whether the contents that the kernel holds pages of are good, but of another version than these attributes.
    fn is_disputed(&self, node: NodeId, attr: &Attr) -> bool {
        let held = self.nodes.content(node).filter(|content| !content.is_stale());
        held.is_some_and(|content| content.version() != attr.version())
    }

    /// The contents to open, and whether the kernel's pages are theirs. Contents whose pages are to go are stale.
    fn contents_for(
        &mut self,
        node: NodeId,
        attr: &Attr,
        mount: &Inner,
    ) -> Result<(Arc<Content>, bool), VfsError> {
        let version = attr.version();
        let held = self.nodes.content(node).filter(|content| !content.is_stale());
        let pages = self.nodes.open_pages(node, version, attr.settled)?;
        let pages = if pages == Pages::Keep && self.handles.is_dropping(node) { Pages::Drop } else { pages };
        if pages == Pages::Replaced {
            for file in self.handles.of_node(node) {
                let content = file.reader.content();
                if content.version() != version {
                    content.condemn();
                }
            }
        }
        let share = mount.share_name(self.nodes.share_name(node)?.1)?.clone();
        let file = OpenRead { share, id: attr.id, version, settled: attr.settled };
        // Nobody who reads the pages is left: what was handed out of them binds nobody once they are dropped.
        let held = held.filter(|_| pages == Pages::Keep || self.handles.of_node(node).next().is_some());
        let content = match (pages, held) {
            (Pages::Keep, Some(held)) => held,
            (Pages::Drop, Some(held)) => {
                mount.reads.renew(&held, &file);
                held
            }
            (Pages::Keep, None) => mount.reads.content(&file, HandedOut::Unknown),
            (Pages::Drop | Pages::Replaced, _) => mount.reads.content(&file, HandedOut::Nothing),
        };
        self.nodes.hold(node, &content);
        Ok((content, pages == Pages::Keep))
    }
}
