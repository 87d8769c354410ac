//! A folder whose folders are read one after the other, each in full.

use tokio::time::Instant;

use super::{NodeId, folder::WINDOW_FILES_MIN};
use crate::vfs::walks::Order;

/// Folders fetched ahead that nobody came to yet: of 1 MB each, what 1 Gbit/s brings in twelve round trips of 20 ms.
pub const FOLDERS_AHEAD_MAX: usize = 32;

/// Where to look for the folders that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The folder that they are in.
    pub parent: NodeId,
    /// The one that was come to before the last.
    pub before: Option<NodeId>,
    /// The one that was come to last.
    pub last: NodeId,
    /// How many of those that follow.
    pub count: usize,
    /// The order in which they were come to so far.
    pub order: Order,
}

#[derive(Debug)]
pub(super) struct Parent {
    /// The window that its folders took.
    window_files: usize,
    used_at: Instant,
    before: Option<NodeId>,
    last: Option<NodeId>,
    /// How many may be ahead.
    most: usize,
    ahead: Vec<NodeId>,
    /// Steps that were shorter in the order of names, less those that were in that of the listing.
    names: i8,
}

/// Steps beyond which more of them say nothing new.
const VOTES_MAX: i8 = 4;

impl Parent {
    pub(super) fn new(now: Instant) -> Parent {
        let (window_files, ahead) = (WINDOW_FILES_MIN, Vec::new());
        Parent { window_files, used_at: now, before: None, last: None, most: 1, ahead, names: 0 }
    }

    pub(super) fn window_files(&self) -> usize {
        self.window_files
    }

    pub(super) fn used_at(&self) -> Instant {
        self.used_at
    }

    /// One of its folders was read in full.
    pub(super) fn read(&mut self, window_files: usize, now: Instant) {
        (self.window_files, self.used_at) = (window_files, now);
    }

    /// Somebody came to one of its folders.
    pub(super) fn visit(&mut self, dir: NodeId, was_ahead: bool) {
        if self.last != Some(dir) {
            self.before = self.last.replace(dir);
        }
        if was_ahead {
            self.ahead.retain(|other| *other != dir);
            self.most = (self.most * 2).min(FOLDERS_AHEAD_MAX);
        } else if !self.ahead.is_empty() {
            self.most = (self.most / 2).max(1);
        }
    }

    /// The last step was shorter in this order.
    pub(super) fn vote(&mut self, order: Order) {
        let by = if order == Order::Names { 1 } else { -1 };
        self.names = (self.names + by).clamp(-VOTES_MAX, VOTES_MAX);
    }

    pub(super) fn expect(&mut self, dir: NodeId) {
        self.ahead.push(dir);
    }

    /// Nobody came to one of its folders.
    pub(super) fn give_up(&mut self, dir: NodeId) {
        self.ahead.retain(|other| *other != dir);
        self.most = (self.most / 2).max(1);
    }

    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.ahead.len())
    }

    pub(super) fn next(&self, parent: NodeId, count: usize) -> Option<Next> {
        let order = if self.names > 0 { Order::Names } else { Order::Listing };
        Some(Next { parent, before: self.before, last: self.last?, count, order })
    }
}
