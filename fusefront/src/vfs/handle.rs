//! Open files and directories, by the handle that the kernel names them with.

use std::sync::{Arc, Weak};

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
    dirs: Slab<Arc<OpenDir>>,
}

impl Handles {
    /// Adds an open file.
    pub fn add_file(&mut self, file: OpenFile) -> HandleId {
        handle(self.files.insert(Arc::new(file)))
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
        key(handle).and_then(|key| self.files.try_remove(key))
    }

    /// Takes a directory out; `None` when it is out already.
    pub fn remove_dir(&mut self, handle: HandleId) -> Option<Arc<OpenDir>> {
        key(handle).and_then(|key| self.dirs.try_remove(key))
    }

    /// The open files of a node.
    pub fn of_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<OpenFile>> {
        self.files.iter().map(|(_, file)| file).filter(move |file| file.node == node)
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
