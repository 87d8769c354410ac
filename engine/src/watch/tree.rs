//! The watched directories: those under a lease and all on the way to them, each below the one that holds its name.
//!
//! No system calls: whoever adds a directory has watched it before, and says under which number.

use std::{collections::HashMap, sync::Arc};

use wire::{LeaseId, Name, SharePath};

use crate::share::Scope;

/// The kernel's number of a watch; not given again before two thousand million others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct WatchNo(pub(super) i32);

/// Which file a directory is, for as long as it is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileNo {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// A directory of a tree, unless it is gone meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeKey {
    index: usize,
    serial: u64,
}

/// A session's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) session: u64,
    pub(super) lease: LeaseId,
}

/// A watched directory.
#[derive(Debug)]
struct Node {
    serial: u64,
    watch: WatchNo,
    file: FileNo,
    /// The directory above and the name there; `None` for the top.
    place: Option<(usize, Name)>,
    top: usize,
    children: HashMap<Name, usize>,
    holders: Vec<Holder>,
}

/// What one part of a share has watched.
#[derive(Debug)]
struct Top {
    scope: Arc<Scope>,
    file: FileNo,
    node: usize,
}

/// What a removal leaves to do.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// Leases that are gone.
    pub(super) revoked: Vec<Holder>,
    /// Watches that nothing needs any more.
    pub(super) unused: Vec<WatchNo>,
}

/// All trees of a host.
#[derive(Debug, Default)]
pub(super) struct Trees {
    nodes: slab::Slab<Node>,
    /// The directories of each watch: several where shares overlap.
    by_watch: HashMap<WatchNo, Vec<usize>>,
    tops: slab::Slab<Top>,
    serial: u64,
    holders: usize,
}

impl Trees {
    /// Watches in use.
    pub(super) fn watches(&self) -> usize {
        self.by_watch.len()
    }

    /// Leases of all sessions.
    pub(super) fn leases(&self) -> usize {
        self.holders
    }

    /// The directory at the top of this part of a share.
    pub(super) fn top(&self, scope: &Scope, file: FileNo) -> Option<NodeKey> {
        let (_, top) = self.tops.iter().find(|(_, top)| top.file == file && top.scope.is_same_part(scope))?;
        Some(self.key(top.node))
    }

    /// The directory at the top of each part of a share.
    pub(super) fn tops(&self) -> Vec<(NodeKey, Arc<Scope>)> {
        self.tops.iter().map(|(_, top)| (self.key(top.node), Arc::clone(&top.scope))).collect()
    }

    /// The lowest directory on the way to `path` that is watched, and how many names of the path lead to it.
    pub(super) fn deepest(&self, top: NodeKey, path: &SharePath) -> Option<(NodeKey, usize)> {
        let mut at = self.index(top)?;
        let mut depth = 0;
        for name in path.names() {
            let Some(&child) = self.nodes[at].children.get(&name) else { break };
            (at, depth) = (child, depth + 1);
        }
        Some((self.key(at), depth))
    }

    pub(super) fn file(&self, key: NodeKey) -> Option<FileNo> {
        Some(self.nodes[self.index(key)?].file)
    }

    /// Whether any lease is on the directory.
    pub(super) fn is_held(&self, key: NodeKey) -> bool {
        self.index(key).is_some_and(|index| !self.nodes[index].holders.is_empty())
    }

    pub(super) fn child(&self, parent: NodeKey, name: &Name) -> Option<NodeKey> {
        let index = self.index(parent)?;
        self.nodes[index].children.get(name).map(|&child| self.key(child))
    }

    /// Adds the top of a part of a share.
    pub(super) fn add_top(&mut self, scope: Arc<Scope>, file: FileNo, watch: WatchNo) -> NodeKey {
        let top = self.tops.vacant_key();
        let node = self.add(Node {
            serial: 0,
            watch,
            file,
            place: None,
            top,
            children: HashMap::new(),
            holders: Vec::new(),
        });
        self.tops.insert(Top { scope, file, node });
        self.key(node)
    }

    /// Adds a directory below one that is there; `None` where that is gone.
    pub(super) fn add_child(
        &mut self,
        parent: NodeKey,
        name: Name,
        file: FileNo,
        watch: WatchNo,
    ) -> Option<NodeKey> {
        let above = self.index(parent)?;
        let place = Some((above, name.clone()));
        let top = self.nodes[above].top;
        let node = Node { serial: 0, watch, file, place, top, children: HashMap::new(), holders: Vec::new() };
        let node = self.add(node);
        self.nodes[above].children.insert(name, node);
        Some(self.key(node))
    }

    fn add(&mut self, mut node: Node) -> usize {
        self.serial += 1;
        node.serial = self.serial;
        let watch = node.watch;
        let index = self.nodes.insert(node);
        self.by_watch.entry(watch).or_default().push(index);
        index
    }

    /// Puts a lease on the directory; whether it is still there.
    pub(super) fn hold(&mut self, key: NodeKey, holder: Holder) -> bool {
        let Some(index) = self.index(key) else { return false };
        self.nodes[index].holders.push(holder);
        self.holders += 1;
        true
    }

    /// Takes a lease off, and with it what was watched for its sake alone.
    pub(super) fn release(&mut self, key: NodeKey, holder: Holder) -> Cut {
        let mut cut = Cut::default();
        let Some(index) = self.index(key) else { return cut };
        let holders = &mut self.nodes[index].holders;
        let before = holders.len();
        holders.retain(|other| *other != holder);
        self.holders -= before - holders.len();
        self.prune(index, &mut cut);
        cut
    }

    /// Takes out a directory that has neither leases nor directories below it, and those above of which that is true then.
    pub(super) fn prune_from(&mut self, key: NodeKey) -> Cut {
        let mut cut = Cut::default();
        if let Some(index) = self.index(key) {
            self.prune(index, &mut cut);
        }
        cut
    }

    fn prune(&mut self, index: usize, cut: &mut Cut) {
        let mut at = Some(index);
        while let Some(index) = at {
            let node = &self.nodes[index];
            if !node.holders.is_empty() || !node.children.is_empty() {
                return;
            }
            at = node.place.as_ref().map(|(above, _)| *above);
            self.remove(index, cut);
        }
    }

    /// Takes out a directory and all below it, and what is above for their sake alone.
    pub(super) fn cut(&mut self, key: NodeKey) -> Cut {
        let mut cut = Cut::default();
        let Some(index) = self.index(key) else { return cut };
        let above = self.nodes[index].place.as_ref().map(|(above, _)| *above);
        let mut left = vec![index];
        // Each is below one that is taken out, and no directory is below itself.
        while let Some(index) = left.pop() {
            left.extend(self.nodes[index].children.values());
            self.remove(index, &mut cut);
        }
        if let Some(above) = above {
            self.prune(above, &mut cut);
        }
        cut
    }

    /// Takes one directory out; those below are the caller's.
    fn remove(&mut self, index: usize, cut: &mut Cut) {
        let node = self.nodes.remove(index);
        match &node.place {
            // Above may be gone, and its place another's, where a whole tree is taken out from the top.
            Some((above, name)) => {
                if let Some(above) = self.nodes.get_mut(*above)
                    && above.children.get(name) == Some(&index)
                {
                    above.children.remove(name);
                }
            }
            None => drop(self.tops.remove(node.top)),
        }
        let nodes = self.by_watch.get_mut(&node.watch).map(|nodes| {
            nodes.retain(|&other| other != index);
            nodes.len()
        });
        if nodes == Some(0) {
            self.by_watch.remove(&node.watch);
            cut.unused.push(node.watch);
        }
        self.holders -= node.holders.len();
        cut.revoked.extend(node.holders);
    }

    /// The directories of a watch.
    pub(super) fn of_watch(&self, watch: WatchNo) -> Vec<NodeKey> {
        let nodes = self.by_watch.get(&watch).map_or(&[][..], Vec::as_slice);
        nodes.iter().map(|&index| self.key(index)).collect()
    }

    /// Whether it is the top of a tree.
    pub(super) fn is_top(&self, key: NodeKey) -> bool {
        self.index(key).is_some_and(|index| self.nodes[index].place.is_none())
    }

    pub(super) fn holders(&self, key: NodeKey) -> &[Holder] {
        self.index(key).map_or(&[], |index| &self.nodes[index].holders)
    }

    /// Where the directory is: the part of a share, and the path in it.
    pub(super) fn place(&self, key: NodeKey) -> Option<(Arc<Scope>, SharePath)> {
        let index = self.index(key)?;
        let scope = Arc::clone(&self.tops[self.nodes[index].top].scope);
        let mut names = Vec::new();
        let mut at = index;
        while let Some((above, name)) = &self.nodes[at].place {
            names.push(name);
            at = *above;
        }
        let path = names.into_iter().rev().try_fold(SharePath::root(), |path, name| path.join(name));
        Some((scope, path.ok()?))
    }

    /// Whether the patterns of the share may hide anything in the directory.
    pub(super) fn has_patterns(&self, key: NodeKey) -> bool {
        self.index(key).is_some_and(|index| self.tops[self.nodes[index].top].scope.has_patterns())
    }

    /// The key of a directory that never was.
    #[cfg(test)]
    pub(super) fn nowhere() -> NodeKey {
        NodeKey { index: usize::MAX, serial: 0 }
    }

    fn key(&self, index: usize) -> NodeKey {
        NodeKey { index, serial: self.nodes[index].serial }
    }

    fn index(&self, key: NodeKey) -> Option<usize> {
        self.nodes.get(key.index).filter(|node| node.serial == key.serial).map(|_| key.index)
    }
}
