//! Nodes: the files that the kernel holds a number of.
//!
//! The kernel counts the lookups it was answered and gives them back with FORGET; a node leaves the table when none is
//! left, no handle is open on it and no node below it refers to it. The table holds no more than the kernel does.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Weak},
};

use wire::{FileId, FileKind, Name, SharePath, Version, limits};

use crate::{error::VfsError, read::content::Content};

/// The kernel's number of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the mount (`FUSE_ROOT_ID`).
    pub const ROOT: NodeId = NodeId(1);
}

/// From here up: numbers for files whose own number is taken, or not known.
const SYNTHETIC_FIRST: u64 = 1 << 63;

/// Components of the longest path: each takes a letter and a slash.
const DEPTH_MAX: usize = limits::PATH_BYTES_MAX / 2 + 1;

/// A node with the generation that tells it from earlier ones of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRef {
    /// Its number.
    pub node: NodeId,
    /// Never the same for two nodes of one number.
    pub generation: u64,
}

/// What an open means for the pages that the kernel holds of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// They are of this version: keep them.
    Keep,
    /// There are none, or they may be of other contents under the same version: drop them.
    Drop,
    /// They are of another version: drop them, and who reads them must open again.
    Replaced,
}

struct Node {
    /// Which file; `None` where the host listed a name that it could not look at.
    id: Option<FileId>,
    kind: FileKind,
    parent: NodeId,
    /// The name of the latest lookup; `None` for the root.
    name: Option<Name>,
    generation: u64,
    lookups: u64,
    /// Nodes below it and open handles.
    pins: u32,
    /// The version that the kernel was told of last, hashed; zero before.
    told: u64,
    /// Where the kernel's pages come from; boxed since most files are never opened.
    pages: Option<Box<Held>>,
}

/// The contents that the kernel may hold pages of.
struct Held {
    content: Weak<Content>,
    /// As they were when they were opened last; contents that live know better.
    version: Version,
    settled: bool,
}

/// All nodes of a mount.
pub struct NodeTable {
    nodes: HashMap<NodeId, Node>,
    /// The root is not in here: a share that contains itself (a bind mount) gets a second node for it.
    by_file: HashMap<FileId, NodeId>,
    synthetic_next: u64,
    generation: u64,
}

impl NodeTable {
    /// A table with the root alone.
    pub fn new(root: FileId) -> NodeTable {
        let root = Node {
            id: Some(root),
            kind: FileKind::Directory,
            parent: NodeId::ROOT,
            name: None,
            generation: 0,
            lookups: 1,
            pins: 0,
            told: 0,
            pages: None,
        };
        NodeTable {
            nodes: HashMap::from([(NodeId::ROOT, root)]),
            by_file: HashMap::new(),
            synthetic_next: SYNTHETIC_FIRST,
            generation: 0,
        }
    }

    /// How many nodes there are, the root among them.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Counts one lookup of `id`, found as `name` in `parent`; makes the node if there is none. `id` is `None` for a
    /// name the host could not look at: such a node is new each time.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the parent is gone, or lies below the file: the kernel looks the path up again.
    pub fn look_up(
        &mut self,
        parent: NodeId,
        name: &Name,
        id: Option<FileId>,
        kind: FileKind,
    ) -> Result<NodeRef, VfsError> {
        if !self.nodes.contains_key(&parent) {
            return Err(VfsError::Stale);
        }
        let known = id.and_then(|id| self.by_file.get(&id).copied());
        let node = match known {
            Some(node) => {
                self.relink(node, parent, name)?;
                node
            }
            None => self.insert(parent, name, id, kind),
        };
        let entry = self.nodes.get_mut(&node).ok_or(VfsError::Stale)?;
        entry.lookups += 1;
        Ok(NodeRef { node, generation: entry.generation })
    }

    /// Takes back `lookups` of a node.
    pub fn forget(&mut self, node: NodeId, lookups: u64) {
        if node == NodeId::ROOT {
            return;
        }
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.lookups = entry.lookups.saturating_sub(lookups);
            self.reap(node);
        }
    }

    /// Keeps a node for an open handle.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when it is gone.
    pub fn pin(&mut self, node: NodeId) -> Result<(), VfsError> {
        self.nodes.get_mut(&node).ok_or(VfsError::Stale)?.pins += 1;
        Ok(())
    }

    /// Undoes one [`NodeTable::pin`].
    pub fn unpin(&mut self, node: NodeId) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            entry.pins = entry.pins.saturating_sub(1);
            self.reap(node);
        }
    }

    /// Which file a node is; `None` where the host could not look.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the node is gone.
    pub fn file(&self, node: NodeId) -> Result<(Option<FileId>, FileKind), VfsError> {
        self.nodes.get(&node).map(|entry| (entry.id, entry.kind)).ok_or(VfsError::Stale)
    }

    /// The generation of a node.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the node is gone.
    pub fn generation(&self, node: NodeId) -> Result<u64, VfsError> {
        self.nodes.get(&node).map(|entry| entry.generation).ok_or(VfsError::Stale)
    }

    /// The parent of a node; the root is its own.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the node is gone.
    pub fn parent(&self, node: NodeId) -> Result<NodeId, VfsError> {
        self.nodes.get(&node).map(|entry| entry.parent).ok_or(VfsError::Stale)
    }

    /// The name of a node's latest lookup; `None` for the root and for a node that is gone.
    pub fn name(&self, node: NodeId) -> Option<&Name> {
        self.nodes.get(&node)?.name.as_ref()
    }

    /// Where a node is, by the names of the latest lookups.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when it or a parent is gone, [`VfsError::TooLong`] past the protocol's limit.
    pub fn path(&self, node: NodeId) -> Result<SharePath, VfsError> {
        let mut names = Vec::new();
        let mut at = node;
        while at != NodeId::ROOT {
            let entry = self.nodes.get(&at).ok_or(VfsError::Stale)?;
            names.push(entry.name.as_ref().ok_or(VfsError::Stale)?.as_bytes());
            if names.len() > DEPTH_MAX {
                return Err(VfsError::TooLong);
            }
            at = entry.parent;
        }
        names.reverse();
        SharePath::new(&names.join(&b'/')).map_err(|_| VfsError::TooLong)
    }

    /// The inode number that `stat` shows, or will show, of a file: its own on the host unless that is taken.
    pub fn inode(&self, id: &FileId) -> Option<u64> {
        if let Some(node) = self.by_file.get(id) {
            return Some(node.0);
        }
        let own = NodeId(id.inode);
        (is_own_number(id.inode) && !self.nodes.contains_key(&own)).then_some(id.inode)
    }

    /// What an open at `version` means for the kernel's pages.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the node is gone.
    pub fn open_pages(&self, node: NodeId, version: Version, settled: bool) -> Result<Pages, VfsError> {
        let entry = self.nodes.get(&node).ok_or(VfsError::Stale)?;
        let Some(held) = entry.pages.as_deref() else { return Ok(Pages::Drop) };
        let (held_version, held_settled, stale) = match held.content.upgrade() {
            Some(content) => (content.version(), content.is_settled(), content.is_stale()),
            None => (held.version, held.settled, false),
        };
        Ok(if held_version != version || stale {
            Pages::Replaced
        } else if held_settled && settled {
            Pages::Keep
        } else {
            Pages::Drop
        })
    }

    /// Notes the contents that the kernel's pages come from now.
    pub fn hold(&mut self, node: NodeId, content: &Arc<Content>) {
        if let Some(entry) = self.nodes.get_mut(&node) {
            let (version, settled) = (content.version(), content.is_settled());
            entry.pages = Some(Box::new(Held { content: Arc::downgrade(content), version, settled }));
        }
    }

    /// Forgets contents that only the caller still holds: a weak reference keeps their memory. Their version stays.
    pub fn let_go(&mut self, node: NodeId, content: &Arc<Content>) {
        let Some(held) = self.nodes.get_mut(&node).and_then(|entry| entry.pages.as_deref_mut()) else {
            return;
        };
        let ours = Weak::as_ptr(&held.content) == Arc::as_ptr(content);
        if ours && Arc::strong_count(content) == 1 && !content.is_stale() {
            (held.version, held.settled) = (content.version(), content.is_settled());
            held.content = Weak::new();
        }
    }

    /// The contents that the kernel may hold pages of, while they are remembered.
    pub fn content(&self, node: NodeId) -> Option<Arc<Content>> {
        self.nodes.get(&node)?.pages.as_deref()?.content.upgrade()
    }

    /// Notes the version that the kernel is told of with this answer; whether it was told another one before.
    pub fn tell(&mut self, node: NodeId, version: &Version) -> bool {
        let hash = hash_of(version);
        self.nodes.get_mut(&node).is_some_and(|entry| std::mem::replace(&mut entry.told, hash) != hash)
    }

    fn insert(&mut self, parent: NodeId, name: &Name, id: Option<FileId>, kind: FileKind) -> NodeId {
        let node = self.free_number(id);
        self.generation += 1;
        let entry = Node {
            id,
            kind,
            parent,
            name: Some(name.clone()),
            generation: self.generation,
            lookups: 0,
            pins: 0,
            told: 0,
            pages: None,
        };
        self.nodes.insert(node, entry);
        if let Some(id) = id {
            self.by_file.insert(id, node);
        }
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.pins += 1;
        }
        node
    }

    fn free_number(&mut self, id: Option<FileId>) -> NodeId {
        if let Some(id) = id {
            let own = NodeId(id.inode);
            if is_own_number(id.inode) && !self.nodes.contains_key(&own) {
                return own;
            }
        }
        // The table is far smaller than the range, so this ends.
        loop {
            let node = NodeId(self.synthetic_next);
            self.synthetic_next = self.synthetic_next.checked_add(1).unwrap_or(SYNTHETIC_FIRST);
            if !self.nodes.contains_key(&node) {
                return node;
            }
        }
    }

    /// Moves a node to where it was found last.
    fn relink(&mut self, node: NodeId, parent: NodeId, name: &Name) -> Result<(), VfsError> {
        let Some(entry) = self.nodes.get(&node) else { return Err(VfsError::Stale) };
        let from = entry.parent;
        if from == parent && entry.name.as_ref() == Some(name) {
            return Ok(());
        }
        if entry.kind == FileKind::Directory && self.is_at_or_above(node, parent) {
            return Err(VfsError::Stale);
        }
        if let Entry::Occupied(mut entry) = self.nodes.entry(node) {
            entry.get_mut().parent = parent;
            entry.get_mut().name = Some(name.clone());
        }
        self.pin(parent)?;
        self.unpin(from);
        Ok(())
    }

    fn is_at_or_above(&self, node: NodeId, mut below: NodeId) -> bool {
        for _ in 0..=DEPTH_MAX {
            if below == node {
                return true;
            }
            match self.nodes.get(&below) {
                Some(entry) if below != NodeId::ROOT => below = entry.parent,
                _ => return false,
            }
        }
        true
    }

    /// Drops a node that nobody needs, and then its parents in turn.
    fn reap(&mut self, mut node: NodeId) {
        while node != NodeId::ROOT {
            let Entry::Occupied(entry) = self.nodes.entry(node) else { return };
            if entry.get().lookups > 0 || entry.get().pins > 0 {
                return;
            }
            let gone = entry.remove();
            if let Some(id) = gone.id.filter(|id| self.by_file.get(id) == Some(&node)) {
                self.by_file.remove(&id);
            }
            node = gone.parent;
            if let Some(parent) = self.nodes.get_mut(&node) {
                parent.pins = parent.pins.saturating_sub(1);
            }
        }
    }
}

fn hash_of(version: &Version) -> u64 {
    let mut hasher = DefaultHasher::new();
    version.hash(&mut hasher);
    hasher.finish()
}

/// Whether the kernel may know a file by this inode number of the host: 0 and 1 mean something else to FUSE, and the
/// upper half is ours.
fn is_own_number(inode: u64) -> bool {
    (2..SYNTHETIC_FIRST).contains(&inode)
}

#[cfg(test)]
mod tests;
