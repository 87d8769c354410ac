//! How nodes are made, found, moved and dropped.

use std::{cell::Cell, hash::BuildHasher};

use wire::{FileId, FileKind, Name, ShareId};

use super::{
    DEPTH_MAX, Found, LATELY, LEFT_MAX, NodeId, NodeTable, Realm, is_own_number,
    rows::{Mark, Node, Row},
};
use crate::error::VfsError;

impl NodeTable {
    /// The row of a node.
    pub(super) fn find(&self, node: NodeId) -> Result<(Row, &Node), VfsError> {
        let row = match node.synthetic_row() {
            _ if node == NodeId::ROOT => Some(Row::ROOT),
            // Another node may be there by now.
            Some(row) => Some(row).filter(|row| self.number(*row) == node),
            None => self.find_number(node.0),
        };
        let row = row.ok_or(VfsError::Stale)?;
        Ok((row, self.rows.get(row).ok_or(VfsError::Stale)?))
    }

    fn find_number(&self, inode: u64) -> Option<Row> {
        let lately = self.lately(inode);
        // Whoever is marked so is in the index, and alone with his number.
        let is_it = |node: &Node| node.inode == inode && node.is(Mark::OwnNumber);
        if self.rows.get(lately.get()).is_some_and(is_it) {
            return Some(lately.get());
        }
        let has_it = |row| self.rows.get(Row(row)).is_some_and(|node| node.inode == inode);
        let found = self.by_number.find(self.hasher.hash_one(inode), has_it).map(Row)?;
        lately.set(found);
        Some(found)
    }

    fn lately(&self, inode: u64) -> &Cell<Row> {
        let [lowest, ..] = inode.to_le_bytes();
        &self.lately[usize::from(lowest) % LATELY]
    }

    /// The number of a row in use.
    pub(super) fn number(&self, row: Row) -> NodeId {
        match self.rows.get(row) {
            _ if row == Row::ROOT => NodeId::ROOT,
            Some(node) if node.is(Mark::OwnNumber) => NodeId(node.inode),
            Some(node) => NodeId::synthetic(row, node.generation),
            None => NodeId::synthetic(row, 0),
        }
    }

    /// The node of a file of a share, roots left out; of any kind where none is named, the latest with a number of ours.
    pub(super) fn find_file(&self, share: ShareId, id: &FileId, kind: Option<FileKind>) -> Option<Row> {
        let realm = self.find_realm(Realm { share, fs: id.fs })?;
        let key = (realm, id.inode, id.birth);
        let is_it = |row: u32| {
            self.rows.get(Row(row)).is_some_and(|node| {
                node.file_key() == key
                    && !node.is(Mark::IsRoot)
                    && kind.is_none_or(|kind| kind == node.kind())
            })
        };
        let ours = self.by_file.find(self.hasher.hash_one(key), is_it).map(Row);
        ours.or_else(|| self.find_number(id.inode).filter(|row| is_it(row.0)))
    }

    /// Which file a node is.
    pub(super) fn id(&self, node: &Node) -> Option<FileId> {
        let (realm, _) = self.realms.get(node.realm as usize)?;
        node.is(Mark::HasId).then_some(FileId { fs: realm.fs, inode: node.inode, birth: node.birth })
    }

    /// The share of a node; of no meaning for a root that is no share.
    pub(super) fn share_of(&self, node: &Node) -> ShareId {
        let (realm, _) = self.realms.get(node.realm as usize).expect("a realm stays for its nodes");
        realm.share
    }

    fn find_realm(&self, realm: Realm) -> Option<u32> {
        let is_it = |at: u32| self.realms.get(at as usize).is_some_and(|(other, _)| *other == realm);
        self.by_realm.find(self.hasher.hash_one(realm), is_it)
    }

    /// A node of what was found, counted with its realm and in no index yet.
    pub(super) fn node_of(&mut self, share: ShareId, found: Found) -> Node {
        let realm = Realm { share, fs: found.id.map_or(0, |id| id.fs) };
        let at = self.find_realm(realm).unwrap_or_else(|| {
            let at = u32::try_from(self.realms.insert((realm, 0))).expect("no more realms than nodes");
            let (realms, hasher) = (&self.realms, &self.hasher);
            let hash_of = |at: u32| hasher.hash_one(realms[at as usize].0);
            self.by_realm.insert(hash_of(at), at, hash_of);
            at
        });
        if let Some((_, nodes)) = self.realms.get_mut(at as usize) {
            *nodes += 1;
        }
        let mut node = Node::new(found.kind);
        node.realm = at;
        if let Some(id) = found.id {
            (node.inode, node.birth) = (id.inode, id.birth);
            node.mark(Mark::HasId, true);
        }
        node
    }

    /// A node for what was found as `name` in `parent`.
    pub(super) fn insert(&mut self, (share, parent): (ShareId, Row), name: &Name, found: Found) -> Row {
        let node = self.node_of(share, found);
        self.add(node, parent, name)
    }

    /// A node for the root of a share.
    pub(super) fn insert_root(&mut self, share: ShareId, name: &Name, found: Found) -> Row {
        let mut node = self.node_of(share, found);
        node.mark(Mark::IsRoot, true);
        self.add(node, Row::ROOT, name)
    }

    fn add(&mut self, mut node: Node, parent: Row, name: &Name) -> Row {
        self.generation = self.generation.wrapping_add(1);
        (node.generation, node.parent) = (self.generation, parent.0);
        if let Some(id) = self.id(&node) {
            node.mark(Mark::OwnNumber, self.free_own_number(&id).is_some());
        }
        let row = self.rows.insert(node, name.as_bytes());
        self.pin_row(parent);
        self.enter(row, &node);
        row
    }

    fn enter(&mut self, row: Row, node: &Node) {
        let (rows, hasher) = (&self.rows, &self.hasher);
        let of = |row: u32| rows.get(Row(row)).expect("an index holds rows in use");
        if node.is(Mark::OwnNumber) {
            let hash_of = |row: u32| hasher.hash_one(of(row).inode);
            self.by_number.insert(hash_of(row.0), row.0, hash_of);
            self.lately(node.inode).set(row);
        } else if node.is(Mark::HasId) && !node.is(Mark::IsRoot) {
            let hash_of = |row: u32| hasher.hash_one(of(row).file_key());
            self.by_file.insert(hash_of(row.0), row.0, hash_of);
        }
    }

    /// Takes a row out of its index, while it is still there.
    fn leave(&mut self, row: Row, node: &Node) {
        let (rows, hasher) = (&self.rows, &self.hasher);
        let of = |row: u32| rows.get(Row(row)).expect("an index holds rows in use");
        if node.is(Mark::OwnNumber) {
            let hash_of = |row: u32| hasher.hash_one(of(row).inode);
            self.by_number.remove(hash_of(row.0), row.0, hash_of);
        } else if node.is(Mark::HasId) && !node.is(Mark::IsRoot) {
            let hash_of = |row: u32| hasher.hash_one(of(row).file_key());
            self.by_file.remove(hash_of(row.0), row.0, hash_of);
        }
    }

    /// The number that a file has on the host, if no node has it.
    pub(super) fn free_own_number(&self, id: &FileId) -> Option<NodeId> {
        let is_free = is_own_number(id.inode) && self.find_number(id.inode).is_none();
        is_free.then_some(NodeId(id.inode))
    }

    /// Moves a node to where it was found last.
    pub(super) fn relink(&mut self, row: Row, parent: Row, name: &Name) -> Result<(), VfsError> {
        let node = self.rows.get(row).ok_or(VfsError::Stale)?;
        let from = Row(node.parent);
        let is_named = self.rows.name(row) == name.as_bytes();
        if from == parent && is_named {
            return Ok(());
        }
        if node.kind() == FileKind::Directory && self.is_at_or_above(row, parent) {
            return Err(VfsError::Stale);
        }
        if !is_named {
            self.rows.rename(row, name.as_bytes());
        }
        if let Some(node) = self.rows.get_mut(row) {
            node.parent = parent.0;
        }
        self.search.restart();
        self.pin_row(parent);
        self.unpin_row(from);
        self.reap(from);
        if self.rows.get(from).is_some_and(|node| node.lookups == 0) && self.left.len() < LEFT_MAX {
            self.left.push(self.number(from));
        }
        Ok(())
    }

    fn is_at_or_above(&self, row: Row, mut below: Row) -> bool {
        for _ in 0..=DEPTH_MAX {
            if below == row {
                return true;
            }
            match self.rows.get(below) {
                Some(node) if below != Row::ROOT => below = Row(node.parent),
                _ => return false,
            }
        }
        true
    }

    /// Drops a node that nobody needs, and then its parents in turn.
    pub(super) fn reap(&mut self, mut row: Row) {
        while row != Row::ROOT {
            let Some(node) = self.rows.get(row).copied() else { return };
            if node.lookups > 0 || node.pins > 0 {
                return;
            }
            self.leave(row, &node);
            self.rows.remove(row);
            if node.kind() == FileKind::Directory {
                self.search.restart();
            }
            if node.is(Mark::IsRoot) {
                self.share_roots.retain(|root| root.row != row);
            }
            self.leave_realm(node.realm);
            row = Row(node.parent);
            self.unpin_row(row);
        }
    }

    fn leave_realm(&mut self, at: u32) {
        let Some((_, nodes)) = self.realms.get_mut(at as usize) else { return };
        *nodes -= 1;
        if *nodes == 0 {
            let (realms, hasher) = (&self.realms, &self.hasher);
            let hash_of = |at: u32| hasher.hash_one(realms[at as usize].0);
            self.by_realm.remove(hash_of(at), at, hash_of);
            self.realms.remove(at as usize);
        }
    }
}
