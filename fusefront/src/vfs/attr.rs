//! Attributes: how long they hold, and those told to the kernel lately.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use wire::Attr;

use super::inode::NodeId;

/// How long the kernel may answer from the attributes it was told without a lease: nothing tells the mount of a change
/// then, so this is how stale a `stat` may be.
pub const ATTR_TTL: Duration = Duration::from_secs(1);

/// How long the kernel may take a name for granted, for the same reason. An open asks the host in any case. A name
/// that is absent is asked for each time: who waits for a file to appear sees it at once.
pub const ENTRY_TTL: Duration = Duration::from_secs(1);

/// How long the kernel may answer from what it was told under a lease: the host pushes what changes, so this bounds what
/// no push tells of (a write through a shared mapping, or through another name).
pub const LEASED_TTL: Duration = Duration::from_secs(60);

/// The same where the kernel cannot be told to ask for everything again, when the host was lost.
pub const LEASED_TTL_WITHOUT_EPOCHS: Duration = Duration::from_secs(5);

/// How long the kernel may answer from what a reply tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// That the name leads there.
    pub entry: Duration,
    /// The attributes.
    pub attr: Duration,
}

impl Ttl {
    /// What holds where nobody tells of changes.
    pub const UNLEASED: Ttl = Ttl { entry: ENTRY_TTL, attr: ATTR_TTL };
    /// What may be out of date already.
    pub const NONE: Ttl = Ttl { entry: Duration::ZERO, attr: Duration::ZERO };
}

/// Where attributes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The host said so just now.
    Host,
    /// It said so once.
    Memory,
}

/// What a reply tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAttr {
    /// The kernel's number of it.
    pub node: NodeId,
    /// Tells it from earlier files of that number.
    pub generation: u64,
    /// The inode number `stat` shows: the node's, except for the root, which keeps its own from the host.
    pub inode: u64,
    /// The host's attributes.
    pub attr: Attr,
    /// How long it holds.
    pub ttl: Ttl,
}

/// Attributes held in one half of the cache: a quarter of a megabyte.
const HALF_ENTRIES_MAX: usize = 1024;

/// The attributes that the kernel was told last, for the files it asks about again and again.
///
/// Bounded: entries go into the newer half; when that is full, it becomes the older one, which is dropped.
#[derive(Default)]
pub struct Told {
    newer: HashMap<NodeId, (Attr, Instant)>,
    older: HashMap<NodeId, (Attr, Instant)>,
}

impl Told {
    /// Notes what the kernel is told.
    pub fn note(&mut self, node: NodeId, attr: Attr, now: Instant) {
        if self.newer.len() >= HALF_ENTRIES_MAX && !self.newer.contains_key(&node) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(node, (attr, now));
    }

    /// Forgets what the kernel was told: it may be otherwise by now.
    pub fn forget(&mut self, node: NodeId) {
        self.newer.remove(&node);
        self.older.remove(&node);
    }

    /// Notes it if something is noted of this node: listings tell of many files that nobody will ask about.
    pub fn renew(&mut self, node: NodeId, attr: Attr, now: Instant) {
        if self.newer.contains_key(&node) || self.older.contains_key(&node) {
            self.note(node, attr, now);
        }
    }

    /// The attributes and how much longer they hold, while they do.
    pub fn fresh(&self, node: NodeId, now: Instant) -> Option<(Attr, Duration)> {
        let (attr, told) = self.find(node)?;
        let left = (*told + ATTR_TTL).checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((*attr, left))
    }

    /// The attributes as they were told last, however long ago. The node may have been another file's since.
    pub fn last(&self, node: NodeId) -> Option<Attr> {
        self.find(node).map(|(attr, _)| *attr)
    }

    fn find(&self, node: NodeId) -> Option<&(Attr, Instant)> {
        self.newer.get(&node).or_else(|| self.older.get(&node))
    }
}

#[cfg(test)]
mod tests {
    use wire::{ByteLen, FileId, FileKind, Timestamp};

    use super::*;

    fn attr(size: u64) -> Attr {
        let time = Timestamp::default();
        Attr {
            id: FileId { fs: 1, inode: 2, birth: 3 },
            kind: FileKind::Regular,
            perm: 0o644,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            block_bytes: 4096,
            size: ByteLen(size),
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            settled: true,
        }
    }

    #[test]
    fn attributes_hold_for_their_ttl() {
        let (mut told, now) = (Told::default(), Instant::now()); // clock: an origin, nothing waits
        told.note(NodeId(5), attr(1), now);
        assert_eq!(told.fresh(NodeId(5), now + ATTR_TTL / 4), Some((attr(1), ATTR_TTL * 3 / 4)));
        assert_eq!(told.fresh(NodeId(5), now + ATTR_TTL), None);
    }

    #[test]
    fn listings_renew_but_do_not_add() {
        let (mut told, now) = (Told::default(), Instant::now()); // clock: an origin, nothing waits
        told.renew(NodeId(5), attr(1), now);
        assert_eq!(told.fresh(NodeId(5), now), None);
        told.note(NodeId(5), attr(1), now);
        told.renew(NodeId(5), attr(2), now);
        assert_eq!(told.fresh(NodeId(5), now), Some((attr(2), ATTR_TTL)));
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_the_newest() {
        let (mut told, now) = (Told::default(), Instant::now()); // clock: an origin, nothing waits
        let last = 10 * HALF_ENTRIES_MAX as u64;
        for node in 2..=last {
            told.note(NodeId(node), attr(node), now);
            assert!(told.newer.len() + told.older.len() <= 2 * HALF_ENTRIES_MAX);
        }
        assert!(told.fresh(NodeId(last), now).is_some());
        assert!(told.fresh(NodeId(2), now).is_none());
    }
}
