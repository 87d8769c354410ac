//! Nodes: the files that the kernel holds a number of.
//!
//! The kernel counts the lookups it was answered and gives them back with FORGET; a node leaves the table when none is
//! left, no handle is open on it and no node below it refers to it. The table holds no more than the kernel does.
//!
//! A node is a file *of a share*: two shares may hold one file (the same folder twice, one inside the other), and it is
//! then a node in each, with numbers of their own. So a node's path never leaves the share it was found in.
//!
//! A million nodes are about 80 bytes each, name and indexes among them: `rows` holds them in chunks, `index` finds
//! them. Nothing here moves more than a piece of the table at once, since the whole mount waits meanwhile.

mod index;
mod life;
mod pages;
mod prune;
mod rows;
mod seen;

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use slab::Slab;
use wire::{FileId, FileKind, Name, ShareId, SharePath, Version, limits};

use self::{
    index::Index,
    pages::{Held, Seal},
    prune::Search,
    rows::{Mark, Row, Rows},
};
pub use self::{
    pages::Pages,
    prune::{NODES_KEPT, PruneStep},
};
use crate::{error::VfsError, read::content::Content};

/// The kernel's number of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root of the mount (`FUSE_ROOT_ID`).
    pub const ROOT: NodeId = NodeId(1);

    /// The number of a row that cannot have its file's own: it says which row, and which of those that come and go there.
    fn synthetic(row: Row, generation: u32) -> NodeId {
        NodeId(SYNTHETIC_FIRST | u64::from(generation) << 32 | u64::from(row.0))
    }

    /// The row of such a number.
    fn synthetic_row(self) -> Option<Row> {
        let row = u32::try_from(self.0 & u64::from(u32::MAX)).ok()?;
        (self.0 >= SYNTHETIC_FIRST).then_some(Row(row))
    }
}

/// Directories in [`NodeTable::take_left`]; what is beyond them goes when room is made.
const LEFT_MAX: usize = 1024;

/// Nodes whose place in the table is remembered.
const LATELY: usize = 16;

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
    /// Never the same for two nodes of one number, within the kernel's 32 bits.
    pub generation: u64,
}

/// The files of one file system as seen through one share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Realm {
    share: ShareId,
    /// As in [`FileId`]; zero also where the host could not look.
    fs: u64,
}

/// The root of a share in a folder of shares.
struct ShareRoot {
    share: ShareId,
    row: Row,
    name: Name,
}

/// All nodes of a mount.
pub struct NodeTable {
    rows: Rows,
    /// Nodes that have their file's own number, by that.
    by_number: Index,
    /// Where nodes of that index were found last, by their numbers' lowest bits: one answer to the kernel asks for the same
    /// few again and again. A row says itself whether it is the one.
    lately: [Cell<Row>; LATELY],
    /// Other nodes whose file is known, by that. Roots are not in here: a share that contains itself (a bind mount) gets
    /// a second node for its root.
    by_file: Index,
    /// With how many nodes each has; as many as there are nodes at most.
    realms: Slab<(Realm, u32)>,
    by_realm: Index,
    /// The nodes of roots of shares, where the root of the mount is none; of each share the latest last.
    share_roots: Vec<ShareRoot>,
    /// Directories that the kernel forgot and whose node moved away, for who keeps them: at most [`LEFT_MAX`].
    left: Vec<NodeId>,
    /// Whether the root of the mount holds the shares as folders.
    is_folder: bool,
    /// Where the search for what can go is, and the directory found in use last.
    search: Search,
    /// Nodes made so far, as the kernel counts them: its generations have 32 bits. A number's next node of the same
    /// generation is four billion nodes later, when the kernel no longer holds the first.
    generation: u32,
    /// What of the host's is hashed with: it must not choose who shares a place.
    hasher: RandomState,
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
        let mut table = NodeTable {
            rows: Rows::default(),
            by_number: Index::new(),
            lately: [const { Cell::new(Row::ROOT) }; LATELY],
            by_file: Index::new(),
            realms: Slab::new(),
            by_realm: Index::new(),
            share_roots: Vec::new(),
            left: Vec::new(),
            is_folder,
            search: Search::default(),
            generation: 0,
            hasher: RandomState::new(),
        };
        let mut root = table.node_of(share, Found { id, kind: FileKind::Directory });
        root.lookups = 1;
        root.mark(Mark::IsRoot, true);
        let row = table.rows.insert(root, &[]);
        assert_eq!(row, Row::ROOT, "the first row of an empty table");
        table
    }

    /// The directories that the kernel forgot before a node of theirs moved elsewhere, since the last call.
    pub fn take_left(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.left)
    }

    /// How many nodes there are, the root among them.
    pub fn count(&self) -> usize {
        self.rows.count()
    }

    /// Counts one lookup of a file, found as `name` in `parent`; makes the node if there is none.
    ///
    /// A file that is of another kind than the node of its id is another file: it gets a node of its own.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the parent is gone, is no directory of a share, or lies below the file: the kernel looks
    /// the path up again.
    pub fn look_up(&mut self, parent: NodeId, name: &Name, found: Found) -> Result<NodeRef, VfsError> {
        let (parent, above) = self.find(parent)?;
        if above.kind() != FileKind::Directory || (self.is_folder && parent == Row::ROOT) {
            return Err(VfsError::Stale);
        }
        let share = self.share_of(above);
        self.use_row(parent);
        let known = found.id.and_then(|id| self.find_file(share, &id, Some(found.kind)));
        let row = match known {
            Some(row) => {
                self.relink(row, parent, name)?;
                row
            }
            None => self.insert((share, parent), name, found),
        };
        self.count_lookup(row)
    }

    /// Counts one lookup of the root of a share, as which the share named `name` has `id` now.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the root of this mount is itself a share.
    pub fn look_up_share(&mut self, share: ShareId, name: &Name, id: FileId) -> Result<NodeRef, VfsError> {
        if !self.is_folder {
            return Err(VfsError::Stale);
        }
        let row = match self.share_root(share, name, &id) {
            Some(row) => row,
            None => {
                let found = Found { id: Some(id), kind: FileKind::Directory };
                let row = self.insert_root(share, name, found);
                self.share_roots.push(ShareRoot { share, row, name: name.clone() });
                row
            }
        };
        self.count_lookup(row)
    }

    fn count_lookup(&mut self, row: Row) -> Result<NodeRef, VfsError> {
        let node = self.rows.get_mut(row).ok_or(VfsError::Stale)?;
        node.lookups = node.lookups.saturating_add(1);
        let generation = u64::from(node.generation);
        Ok(NodeRef { node: self.number(row), generation })
    }

    /// The node of a share's root, if there is one of this very folder.
    fn share_root(&self, share: ShareId, name: &Name, id: &FileId) -> Option<Row> {
        let latest = self.share_roots.iter().rfind(|root| root.share == share)?;
        let is_it = latest.name == *name && self.id(self.rows.get(latest.row)?) == Some(*id);
        is_it.then_some(latest.row)
    }

    /// Whether a node is the root of a share: the mount's own, or one below it.
    pub fn is_share_root(&self, node: NodeId) -> bool {
        self.find(node).is_ok_and(|(row, _)| self.is_share_root_row(row))
    }

    fn is_share_root_row(&self, row: Row) -> bool {
        let is_root = self.rows.get(row).is_some_and(|node| node.is(Mark::IsRoot));
        is_root && !(self.is_folder && row == Row::ROOT)
    }

    /// Takes back `lookups` of a node.
    pub fn forget(&mut self, node: NodeId, lookups: u64) {
        let Ok((row, _)) = self.find(node) else { return };
        let Some(node) = self.rows.get_mut(row).filter(|_| row != Row::ROOT) else { return };
        // A count that reached its most is not known any more.
        if node.lookups < u32::MAX {
            node.lookups = node.lookups.saturating_sub(u32::try_from(lookups).unwrap_or(u32::MAX));
        }
        self.reap(row);
    }

    /// Keeps a node for an open handle.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when it is gone.
    pub fn pin(&mut self, node: NodeId) -> Result<(), VfsError> {
        let (row, _) = self.find(node)?;
        self.pin_row(row);
        Ok(())
    }

    /// Undoes one [`NodeTable::pin`].
    pub fn unpin(&mut self, node: NodeId) {
        if let Ok((row, _)) = self.find(node) {
            self.unpin_row(row);
            self.reap(row);
        }
    }

    fn pin_row(&mut self, row: Row) {
        if let Some(node) = self.rows.get_mut(row) {
            node.pins = node.pins.saturating_add(1);
        }
    }

    fn unpin_row(&mut self, row: Row) {
        // A count that reached its most is not known any more.
        if let Some(node) = self.rows.get_mut(row).filter(|node| node.pins < u32::MAX) {
            node.pins = node.pins.saturating_sub(1);
        }
    }

    /// Which file a node is; `None` where the host could not look.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the node is gone.
    pub fn file(&self, node: NodeId) -> Result<(Option<FileId>, FileKind), VfsError> {
        self.find(node).map(|(_, node)| (self.id(node), node.kind()))
    }

    /// The generation of a node.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the node is gone.
    pub fn generation(&self, node: NodeId) -> Result<u64, VfsError> {
        self.find(node).map(|(_, node)| u64::from(node.generation))
    }

    /// The parent of a node; the root is its own.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the node is gone.
    pub fn parent(&self, node: NodeId) -> Result<NodeId, VfsError> {
        self.find(node).map(|(_, node)| self.number(Row(node.parent)))
    }

    /// The name of a node's latest lookup; `None` for the root and for a node that is gone.
    pub fn name(&self, node: NodeId) -> Option<Name> {
        let (row, _) = self.find(node).ok()?;
        Name::new(self.rows.name(row)).ok()
    }

    /// The share of a node; `None` for a root that is no share, and for a node that is gone.
    pub fn share(&self, node: NodeId) -> Option<ShareId> {
        let (row, node) = self.find(node).ok()?;
        (!(self.is_folder && row == Row::ROOT)).then(|| self.share_of(node))
    }

    /// The share of a node, and the name of the share's root as in [`NodeTable::place`].
    ///
    /// # Errors
    /// [`VfsError::Stale`] when it or a parent is gone, and for a root that is no share.
    pub fn share_name(&self, node: NodeId) -> Result<(ShareId, Option<&Name>), VfsError> {
        let share = self.share(node).ok_or(VfsError::Stale)?;
        if !self.is_folder {
            return Ok((share, None));
        }
        let (mut at, _) = self.find(node)?;
        for _ in 0..=DEPTH_MAX {
            if self.is_share_root_row(at) {
                break;
            }
            at = Row(self.rows.get(at).ok_or(VfsError::Stale)?.parent);
        }
        let root = self.share_roots.iter().find(|root| root.row == at);
        Ok((share, root.map(|root| &root.name)))
    }

    /// Where a node is, by the names of the latest lookups, and the name of the share's root where that is a folder of
    /// the mount's root.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when it or a parent is gone, and for a root that is no share; [`VfsError::TooLong`] past the
    /// protocol's limit.
    pub fn place(&self, node: NodeId) -> Result<(Place, Option<&Name>), VfsError> {
        let share = self.share(node).ok_or(VfsError::Stale)?;
        let (mut names, (mut at, _)) = (Vec::new(), self.find(node)?);
        while !self.is_share_root_row(at) {
            let node = self.rows.get(at).ok_or(VfsError::Stale)?;
            names.push(self.rows.name(at));
            if names.len() > DEPTH_MAX {
                return Err(VfsError::TooLong);
            }
            at = Row(node.parent);
        }
        names.reverse();
        let path = SharePath::new(&names.join(&b'/')).map_err(|_| VfsError::TooLong)?;
        let root = self.share_roots.iter().find(|root| root.row == at);
        Ok((Place { share, path }, root.map(|root| &root.name)))
    }

    /// The inode number that `stat` shows, or will show, of a file of a share: its own on the host unless that is taken.
    pub fn inode(&self, share: ShareId, id: &FileId) -> Option<u64> {
        let known = self.find_file(share, id, None).map(|row| self.number(row));
        known.or_else(|| self.free_own_number(id)).map(|node| node.0)
    }

    /// The same of a share's root.
    pub fn share_root_inode(&self, share: ShareId, name: &Name, id: &FileId) -> Option<u64> {
        let known = self.share_root(share, name, id).map(|row| self.number(row));
        known.or_else(|| self.free_own_number(id)).map(|node| node.0)
    }

    /// What an open at `version` means for the kernel's pages.
    ///
    /// # Errors
    /// [`VfsError::Stale`] when the node is gone.
    pub fn open_pages(&self, node: NodeId, version: Version, settled: bool) -> Result<Pages, VfsError> {
        let (row, _) = self.find(node)?;
        let Some(held) = self.rows.held(row) else { return Ok(Pages::Drop) };
        let live = held.content().map(|content| (self.seal(&content), content.is_stale()));
        Ok(held.pages(Seal::new(self.hasher.hash_one(version), settled), live))
    }

    /// Notes the contents that the kernel's pages come from now.
    pub fn hold(&mut self, node: NodeId, content: &Arc<Content>) {
        if let Ok((row, _)) = self.find(node) {
            self.rows.hold(row, Held::new(content, self.seal(content)));
        }
    }

    /// Forgets contents that only the caller still holds: a weak reference keeps their memory. Their version stays.
    pub fn let_go(&mut self, node: NodeId, content: &Arc<Content>) {
        let sealed = self.seal(content);
        if let Ok((row, _)) = self.find(node)
            && let Some(held) = self.rows.held_mut(row)
        {
            held.let_go(content, sealed);
        }
    }

    /// The contents that the kernel may hold pages of, while they are remembered.
    pub fn content(&self, node: NodeId) -> Option<Arc<Content>> {
        self.rows.held(self.find(node).ok()?.0)?.content()
    }

    fn seal(&self, content: &Content) -> Seal {
        Seal::new(self.hasher.hash_one(content.version()), content.is_settled())
    }

    /// Notes the version that the kernel is told of with this answer; whether it was told another one before.
    pub fn tell(&mut self, node: NodeId, version: &Version) -> bool {
        let hash = self.hasher.hash_one(version);
        let Ok((row, _)) = self.find(node) else { return false };
        self.rows.get_mut(row).is_some_and(|node| std::mem::replace(&mut node.told, hash) != hash)
    }
}

/// Whether the kernel may know a file by this inode number of the host: 0 and 1 mean something else to FUSE, and the
/// upper half is ours.
fn is_own_number(inode: u64) -> bool {
    (2..SYNTHETIC_FIRST).contains(&inode)
}

#[cfg(test)]
mod tests;
