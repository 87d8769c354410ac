//! Nodes: the files that the kernel holds a number of.
//!
//! The kernel counts the lookups it was answered and gives them back with FORGET; a node leaves the table when none is
//! left, no handle is open on it and no node below it refers to it. The table holds no more than the kernel does.
//!
//! A node is a file *of a share*: two shares may hold one file (the same folder twice, one inside the other), and it is
//! then a node in each, with numbers of their own. So a node's path never leaves the share it was found in.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Weak},
};

use wire::{FileId, FileKind, Name, ShareId, SharePath, Version, limits};

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

/// Where a node is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The share, by its number in this client.
    pub share: ShareId,
    /// The path in it.
    pub path: SharePath,
}

/// What is found under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which file; `None` where the host could not look: such a node is new each time.
    pub id: Option<FileId>,
    /// What it is.
    pub kind: FileKind,
}

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
    /// The share it is in; of no meaning for a root that is no share.
    share: ShareId,
    parent: NodeId,
    /// The name of the latest lookup; `None` for the root, a share's for the root of a share below it.
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

// A million files are known at once in large trees.
const _: () = assert!(size_of::<Node>() <= 96);

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
    /// The nodes of each share. Roots are not in here: a share that contains itself (a bind mount) gets a second node
    /// for its root. As many as there are shares with nodes.
    by_file: HashMap<ShareId, HashMap<FileId, NodeId>>,
    /// The latest node of each share's root, where the root of the mount is no share.
    share_roots: Vec<(ShareId, NodeId)>,
    /// Whether the root of the mount holds the shares as folders.
    is_folder: bool,
    synthetic_next: u64,
    generation: u64,
}

impl NodeTable {
    /// A table with the root alone, which is a share's.
    pub fn of_share(share: ShareId, root: FileId) -> NodeTable {
        NodeTable::with_root(share, Some(root), false)
    }

    /// A table with the root alone, a folder whose entries are the roots of shares.
    pub fn of_folder() -> NodeTable {
        NodeTable::with_root(ShareId(0), None, true)
    }

    fn with_root(share: ShareId, id: Option<FileId>, is_folder: bool) -> NodeTable {
        let root = Node {
            id,
            kind: FileKind::Directory,
            share,
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
            share_roots: Vec::new(),
            is_folder,
            synthetic_next: SYNTHETIC_FIRST,
            generation: 0,
        }
    }

    /// How many nodes there are, the root among them.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Counts one lookup of a file, found as `name` in `parent`; makes the node if there is none.
    ///
    /// A file that is of another kind than the node of its id is another file: it gets a node of its own.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the parent is gone, is no directory of a share, or lies below the file: the kernel looks
    /// the path up again.
    pub fn look_up(&mut self, parent: NodeId, name: &Name, found: Found) -> Result<NodeRef, VfsError> {
        let above = self.nodes.get(&parent).ok_or(VfsError::Stale)?;
        if above.kind != FileKind::Directory || (self.is_folder && parent == NodeId::ROOT) {
            return Err(VfsError::Stale);
        }
        let share = above.share;
        let known = found.id.and_then(|id| self.by_file.get(&share)?.get(&id).copied());
        let node = match known.filter(|node| self.nodes.get(node).is_some_and(|node| node.kind == found.kind))
        {
            Some(node) => {
                self.relink(node, parent, name)?;
                node
            }
            None => {
                let node = self.insert((share, parent), name, found);
                if let Some(id) = found.id {
                    self.by_file.entry(share).or_default().insert(id, node);
                }
                node
            }
        };
        self.count_lookup(node)
    }

    /// Counts one lookup of the root of a share, as which the share named `name` has `id` now.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the root of this mount is itself a share.
    pub fn look_up_share(&mut self, share: ShareId, name: &Name, id: FileId) -> Result<NodeRef, VfsError> {
        if !self.is_folder {
            return Err(VfsError::Stale);
        }
        let node = match self.share_root(share, name, &id) {
            Some(node) => node,
            None => {
                let found = Found { id: Some(id), kind: FileKind::Directory };
                let node = self.insert((share, NodeId::ROOT), name, found);
                self.share_roots.retain(|(other, _)| *other != share);
                self.share_roots.push((share, node));
                node
            }
        };
        self.count_lookup(node)
    }

    fn count_lookup(&mut self, node: NodeId) -> Result<NodeRef, VfsError> {
        let entry = self.nodes.get_mut(&node).ok_or(VfsError::Stale)?;
        entry.lookups += 1;
        Ok(NodeRef { node, generation: entry.generation })
    }

    /// The node of a share's root, if there is one of this very folder.
    fn share_root(&self, share: ShareId, name: &Name, id: &FileId) -> Option<NodeId> {
        let (_, node) = self.share_roots.iter().find(|(known, _)| *known == share)?;
        let entry = self.nodes.get(node)?;
        (entry.id.as_ref() == Some(id) && entry.name.as_ref() == Some(name)).then_some(*node)
    }

    /// Whether a node is the root of a share: the mount's own, or one below it.
    pub fn is_share_root(&self, node: NodeId) -> bool {
        if self.is_folder {
            node != NodeId::ROOT && self.nodes.get(&node).is_some_and(|entry| entry.parent == NodeId::ROOT)
        } else {
            node == NodeId::ROOT
        }
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

    /// The share of a node; `None` for a root that is no share, and for a node that is gone.
    pub fn share(&self, node: NodeId) -> Option<ShareId> {
        let is_in_a_share = !(self.is_folder && node == NodeId::ROOT);
        self.nodes.get(&node).filter(|_| is_in_a_share).map(|entry| entry.share)
    }

    /// Where a node is, by the names of the latest lookups, and the name of the share's root where that is a folder of
    /// the mount's root.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when it or a parent is gone, and for a root that is no share; [`VfsError::TooLong`] past the
    /// protocol's limit.
    pub fn place(&self, node: NodeId) -> Result<(Place, Option<&Name>), VfsError> {
        let share = self.share(node).ok_or(VfsError::Stale)?;
        let (mut names, mut at) = (Vec::new(), node);
        while !self.is_share_root(at) {
            let entry = self.nodes.get(&at).ok_or(VfsError::Stale)?;
            names.push(entry.name.as_ref().ok_or(VfsError::Stale)?.as_bytes());
            if names.len() > DEPTH_MAX {
                return Err(VfsError::TooLong);
            }
            at = entry.parent;
        }
        names.reverse();
        let path = SharePath::new(&names.join(&b'/')).map_err(|_| VfsError::TooLong)?;
        Ok((Place { share, path }, self.name(at)))
    }

    /// The inode number that `stat` shows, or will show, of a file of a share: its own on the host unless that is taken.
    pub fn inode(&self, share: ShareId, id: &FileId) -> Option<u64> {
        if let Some(node) = self.by_file.get(&share).and_then(|files| files.get(id)) {
            return Some(node.0);
        }
        self.free_own_number(id).map(|node| node.0)
    }

    /// The same of a share's root.
    pub fn share_root_inode(&self, share: ShareId, name: &Name, id: &FileId) -> Option<u64> {
        self.share_root(share, name, id).or_else(|| self.free_own_number(id)).map(|node| node.0)
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

    fn insert(&mut self, (share, parent): (ShareId, NodeId), name: &Name, found: Found) -> NodeId {
        let node = self.free_number(found.id);
        self.generation += 1;
        let entry = Node {
            id: found.id,
            kind: found.kind,
            share,
            parent,
            name: Some(name.clone()),
            generation: self.generation,
            lookups: 0,
            pins: 0,
            told: 0,
            pages: None,
        };
        self.nodes.insert(node, entry);
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.pins += 1;
        }
        node
    }

    /// The number that a file has on the host, if no node has it.
    fn free_own_number(&self, id: &FileId) -> Option<NodeId> {
        let own = NodeId(id.inode);
        (is_own_number(id.inode) && !self.nodes.contains_key(&own)).then_some(own)
    }

    fn free_number(&mut self, id: Option<FileId>) -> NodeId {
        if let Some(own) = id.and_then(|id| self.free_own_number(&id)) {
            return own;
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
            self.share_roots.retain(|(_, root)| *root != node);
            if let (Some(id), Some(files)) = (gone.id, self.by_file.get_mut(&gone.share))
                && files.get(&id) == Some(&node)
            {
                files.remove(&id);
                if files.is_empty() {
                    self.by_file.remove(&gone.share);
                }
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
