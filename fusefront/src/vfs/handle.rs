//! Open files and directories, by the handle that the kernel names them with.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use slab::Slab;
use wire::{FileId, message::Target};

use super::{Inner, dir::OpenDir, inode::NodeId};
use crate::{
    error::VfsError,
    read::{Locate, Reader},
};

/// The kernel's number of an open file or directory; the two count apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// One open file.
pub struct OpenFile {
    /// Its node.
    pub node: NodeId,
    /// Reads its contents, which know their version and whether they are stale.
    pub reader: Arc<Reader>,
    /// Whether the kernel was told with its open to drop the file's pages, and is not known to have done so.
    drops: AtomicBool,
}

impl OpenFile {
    /// A file whose open keeps the kernel's pages, or drops them.
    pub fn new(node: NodeId, reader: Arc<Reader>, keeps_pages: bool) -> OpenFile {
        OpenFile { node, reader, drops: AtomicBool::new(!keeps_pages) }
    }

    /// The kernel has the answer to its open, or all of its pages: none of before is left.
    pub fn note_dropped(&self) {
        // Each read comes here, of two threads at once: what is shared is written the first time alone.
        if self.drops.load(Relaxed) {
            self.drops.store(false, Relaxed);
        }
    }
}

/// Where an open file is: by its node's latest name, for as long as the node lives.
pub struct NodeLocation {
    /// The mount; weak, since the read path holds readers and the mount holds the read path.
    pub mount: Weak<Inner>,
    /// The node.
    pub node: NodeId,
    /// The file that it must be.
    pub id: FileId,
}

impl Locate for NodeLocation {
    fn target(&self) -> Result<Target, VfsError> {
        let mount = self.mount.upgrade().ok_or(VfsError::Closed)?;
        let (target, _) = mount.target(self.node)?;
        // The number may have gone to another file since.
        if target.id == Some(self.id) { Ok(target) } else { Err(VfsError::Stale) }
    }
}

/// All open handles. As many as programs hold open.
#[derive(Default)]
pub struct Handles {
    files: Slab<Arc<OpenFile>>,
    /// The keys of the files by their nodes: each answer of the host is held against the open files of its node.
    by_node: BTreeSet<(NodeId, usize)>,
    dirs: Slab<Arc<OpenDir>>,
}

impl Handles {
    /// Adds an open file.
    pub fn add_file(&mut self, file: OpenFile) -> HandleId {
        let node = file.node;
        let key = self.files.insert(Arc::new(file));
        self.by_node.insert((node, key));
        handle(key)
    }

    /// Adds an open directory.
    pub fn add_dir(&mut self, dir: OpenDir) -> HandleId {
        handle(self.dirs.insert(Arc::new(dir)))
    }

    /// An open file.
    ///
    /// # Errors
    /// [`VfsError::BadHandle`].
    pub fn file(&self, handle: HandleId) -> Result<&Arc<OpenFile>, VfsError> {
        key(handle).and_then(|key| self.files.get(key)).ok_or(VfsError::BadHandle)
    }

    /// An open directory.
    ///
    /// # Errors
    /// [`VfsError::BadHandle`].
    pub fn dir(&self, handle: HandleId) -> Result<&Arc<OpenDir>, VfsError> {
        key(handle).and_then(|key| self.dirs.get(key)).ok_or(VfsError::BadHandle)
    }

    /// Takes a file out; `None` when it is out already.
    pub fn remove_file(&mut self, handle: HandleId) -> Option<Arc<OpenFile>> {
        let key = key(handle)?;
        let file = self.files.try_remove(key)?;
        self.by_node.remove(&(file.node, key));
        Some(file)
    }

    /// Takes a directory out; `None` when it is out already.
    pub fn remove_dir(&mut self, handle: HandleId) -> Option<Arc<OpenDir>> {
        key(handle).and_then(|key| self.dirs.try_remove(key))
    }

    /// The open files of a node.
    pub fn of_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<OpenFile>> {
        self.by_node.range((node, 0)..=(node, usize::MAX)).filter_map(|(_, key)| self.files.get(*key))
    }

    /// Whether the kernel is told with the open of one of a node's files to drop its pages, and may not have done so. An
    /// answer on its way may be overtaken by the next: that one must not have the pages kept.
    pub fn is_dropping(&self, node: NodeId) -> bool {
        self.of_node(node).any(|file| file.drops.load(Relaxed))
    }

    /// The nodes of all open files and directories, each as often as it is open.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let files = self.by_node.iter().map(|(node, _)| *node);
        files.chain(self.dirs.iter().map(|(_, dir)| dir.node))
    }

    /// All open files.
    pub fn all_files(&self) -> impl Iterator<Item = &Arc<OpenFile>> {
        self.files.iter().map(|(_, file)| file)
    }

    /// All open directories.
    pub fn all_dirs(&self) -> impl Iterator<Item = &Arc<OpenDir>> {
        self.dirs.iter().map(|(_, dir)| dir)
    }

    /// How many files are open.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// How many directories are open.
    pub fn dirs(&self) -> usize {
        self.dirs.len()
    }
}

// Zero is no handle: the kernel shows it where it has none.
fn handle(key: usize) -> HandleId {
    HandleId(key as u64 + 1)
}

fn key(handle: HandleId) -> Option<usize> {
    usize::try_from(handle.0.checked_sub(1)?).ok()
}
