//! Open files: which version a handle reads, and what its open means for the kernel's pages and older handles.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use wire::{Attr, Extent, FileKind, Version};

use super::{
    By, State, Vfs,
    handle::{HandleId, NodeLocation, OpenFile},
    inode::{NodeId, Pages},
};
use crate::{
    error::VfsError,
    read::{OpenRead, Reader},
};

/// What an open found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The handle.
    pub handle: HandleId,
    /// Whether the pages that the kernel holds of this file are of the version opened.
    pub keep_pages: bool,
}

impl Vfs {
    /// Opens a file for reading, at the version it has on the host now (close-to-open).
    ///
    /// # Errors
    /// [`VfsError::Stale`] when another file has the node's name by now, [`VfsError::IsDirectory`], else what the host
    /// says.
    pub async fn open(&self, node: NodeId, deadline: Instant) -> Result<Opened, VfsError> {
        let (_, kind) = self.0.target(node)?;
        if kind == FileKind::Directory {
            return Err(VfsError::IsDirectory);
        }
        let attr = self.0.stat_node(node, By::Name, deadline).await?;
        let location = NodeLocation { mount: Arc::downgrade(&self.0), node, id: attr.id };
        let file = OpenRead {
            share: self.0.share.name.clone(),
            id: attr.id,
            version: attr.version(),
            settled: attr.settled,
        };
        let reader = self.0.reads.open(&file, Arc::new(location));
        let (opened, outdated) = self.0.state.lock().open(node, attr, reader)?;
        // Before the open is answered: the kernel would cut the first reads at the size it was told before.
        if let (true, Some(kernel)) = (outdated, self.0.kernel.get()) {
            kernel.drop_attr(node);
        }
        Ok(opened)
    }

    /// The bytes of an open file if memory has them all, cut at the end of the file. Each read comes here first.
    ///
    /// # Errors
    /// [`VfsError::BadHandle`], [`VfsError::Stale`].
    pub fn read_cached(&self, handle: HandleId, extent: Extent) -> Result<Option<Bytes>, VfsError> {
        let file = self.file(handle)?;
        file.check()?;
        let bytes = self.0.reads.read_cached(&file.reader, extent);
        if let Some(bytes) = &bytes {
            self.count_read(bytes);
        }
        Ok(bytes)
    }

    /// The bytes of an open file from wherever they are: all up to the end of the file, or an error.
    ///
    /// # Errors
    /// [`VfsError::Stale`] once the file is of another version on the host, [`VfsError::Deadline`], else what the host
    /// says.
    pub async fn read(&self, handle: HandleId, extent: Extent, deadline: Instant) -> Result<Bytes, VfsError> {
        let file = self.file(handle)?;
        let outcome = self.0.reads.read(file.reader.clone(), extent, deadline).await;
        if outcome == Err(VfsError::Stale) {
            file.mark_stale();
        }
        // Again, and after the data came: a newer open may have made the kernel drop its pages meanwhile, and these
        // must not come back.
        file.check()?;
        let bytes = outcome?;
        self.count_read(&bytes);
        Ok(bytes)
    }

    /// Closes a file.
    pub fn release(&self, handle: HandleId) {
        let mut state = self.0.state.lock();
        let file = state.handles.remove_file(handle);
        if let Some(file) = &file {
            state.nodes.unpin(file.node);
        }
        drop(state);
        // Outside the lock: the last reader calls its read-ahead off.
        drop(file);
    }

    fn file(&self, handle: HandleId) -> Result<Arc<OpenFile>, VfsError> {
        self.0.state.lock().handles.file(handle).cloned()
    }

    fn count_read(&self, bytes: &Bytes) {
        self.0.stats.reads.add(1);
        self.0.stats.read_bytes.add(bytes.len() as u64);
    }
}

impl State {
    /// Adds the handle; also whether the kernel may have been told other attributes than these.
    fn open(&mut self, node: NodeId, attr: Attr, reader: Arc<Reader>) -> Result<(Opened, bool), VfsError> {
        let version: Version = attr.version();
        self.nodes.pin(node)?;
        let pages = self.nodes.open_pages(node, version, attr.settled)?;
        if pages == Pages::Replaced {
            for file in self.handles.of_node(node).filter(|file| file.version != version) {
                file.mark_stale();
            }
        }
        let outdated = self.tell(node, attr);
        let handle = self.handles.add_file(OpenFile::new(node, version, reader));
        Ok((Opened { handle, keep_pages: pages == Pages::Keep }, outdated))
    }
}
