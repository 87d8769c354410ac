//! Recognising walks: programs that list a folder, then the folders in it. A plain state machine: what is opened and what
//! was listed in, the folders to list before they are opened out.
//!
//! A walk is a folder that was opened and listed, and then one in it opened. From then on the folders that come next are
//! listed ahead: those in the newest one before those beside it, as `find`, `ls -R` and `tar` go, or level by level where
//! that is how they are opened. A window starts at four folders, doubles each time half of it was opened, and is halved when
//! nobody comes for what was listed. It ends by itself: nothing is listed ahead while the window is full.

mod subfolders;

use std::{
    cmp::Ordering,
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::inode::NodeId;
pub use subfolders::{Order, Subfolders};

/// Folders being listed ahead at once.
const UNDER_WAY_MAX: usize = 32;
/// Folders listed ahead, or about to be, that nobody opened yet: at first, and at most.
const WINDOW_MIN: usize = 4;
const WINDOW_MAX: usize = 64;
/// Bytes of the listings among them, a quarter of what all names may take.
const AHEAD_BYTES_MAX: usize = super::folders::BYTES_MAX / 4;
/// Folders whose folders are known by their order, and how many of these all together: 12 bytes each.
const PARENTS_MAX: usize = 256;
const PLACES_MAX: usize = 2 * subfolders::SUBFOLDERS_MAX;
/// Folders opened last.
const LATELY_MAX: usize = 64;
/// Levels below the folder where a walk began.
const DEPTH_MAX: usize = 64;
/// For how long a folder counts as ahead of somebody once there is no room for more of them.
const PATIENCE: Duration = Duration::from_secs(2);
/// Folders in a row that could not be listed so that their listing holds (no lease is to be had, or files in them have
/// several names), after which none is listed ahead for a while.
const FAILURES_MAX: u32 = 8;
const REST: Duration = Duration::from_secs(30);
/// Votes for one of two ways beyond which more of them say nothing new.
const VOTES_MAX: i8 = 4;

/// Where a folder is in a walk: its rank among those beside it, below the rank of the folder that they are in, and so on.
/// A folder comes before what is in it, and that before the next one beside it.
type Key = Vec<u32>;

/// A folder to be listed ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The folder it is in.
    pub parent: NodeId,
    /// Where it is in the listing of that.
    pub index: usize,
    key: Key,
}

/// What the opening of a folder means.
#[derive(Debug, Default)]
pub struct Opening {
    /// It is being listed ahead: this ends when it is.
    pub listed: Option<watch::Receiver<()>>,
    /// It is not ahead any more: who keeps its node for that lets it go.
    pub is_met: bool,
    /// To be told the folders in the one that it is in, with [`Walks::told`].
    pub wants_parent: bool,
}

/// A folder that was listed ahead.
#[derive(Debug)]
pub struct ListedAhead {
    /// Bytes that its listing takes.
    pub bytes: usize,
    /// The folders in it, unless they are too many.
    pub folders: Option<Subfolders>,
}

struct Parent {
    folders: Subfolders,
    key: Key,
    order: Order,
    /// The rank that comes next.
    next: usize,
    /// The place opened last.
    last: Option<usize>,
    used_at: Instant,
}

enum Ahead {
    UnderWay { key: Key, end: watch::Receiver<()>, is_awaited: bool },
    Listed { at: Instant, bytes: usize },
}

/// The walks of a mount.
#[derive(Default)]
pub struct Walks {
    parents: HashMap<NodeId, Parent>,
    ahead: HashMap<NodeId, Ahead>,
    /// The folders opened last, and those that such are in, the newest at the end.
    lately: VecDeque<(NodeId, Key)>,
    /// The one opened last, and the one that it is in.
    last: Option<(NodeId, NodeId)>,
    window: usize,
    /// Of those ahead, opened since the window last grew.
    hits: usize,
    failures: u32,
    rests_until: Option<Instant>,
    /// For the order of names, less those for that of listings.
    names: i8,
    /// For level by level, less those for what is in a folder before what is beside it.
    levels: i8,
}

impl Walks {
    /// A folder is being opened, which is at `index` of its parent's listing where that is known.
    pub fn opened(&mut self, (parent, dir): (NodeId, NodeId), index: Option<usize>, now: Instant) -> Opening {
        let mut opening = Opening::default();
        self.rests_until = self.rests_until.filter(|until| now < *until);
        match self.ahead.get_mut(&dir) {
            Some(Ahead::UnderWay { end, is_awaited, .. }) => {
                opening.listed = Some(end.clone());
                if !std::mem::replace(is_awaited, true) {
                    self.hit();
                }
            }
            Some(Ahead::Listed { .. }) => {
                self.ahead.remove(&dir);
                opening.is_met = true;
                self.hit();
            }
            None => {}
        }
        self.vote_levels((parent, dir));
        let mut key = Key::new();
        if let Some(of) = self.parents.get_mut(&parent) {
            of.used_at = now;
            if let Some(place) = index.and_then(|index| of.folders.place(index)) {
                key = self.advance(parent, place);
            }
        } else {
            let may_walk = index.is_some() && self.rests_until.is_none();
            opening.wants_parent = may_walk && self.is_lately(parent);
        }
        if let Some(above) = self.lately.iter().position(|(other, _)| *other == parent) {
            // As long as folders in it are opened, it is part of the walk.
            self.lately.make_contiguous()[above..].rotate_left(1);
        }
        self.lately.retain(|(other, _)| *other != dir);
        if self.lately.len() >= LATELY_MAX {
            self.lately.pop_front();
        }
        self.lately.push_back((dir, key));
        opening
    }

    /// The folders in `parent`, of which `dir`, at an index of its listing, was opened.
    pub fn told(&mut self, (parent, folders): (NodeId, Subfolders), index: usize, now: Instant) {
        let key = self.lately.iter().find(|(dir, _)| *dir == parent).map(|(_, key)| key.clone());
        let Some(place) = folders.place(index) else { return };
        self.add((parent, key.unwrap_or_default()), folders, now);
        if self.parents.contains_key(&parent) {
            self.advance(parent, place);
        }
    }

    /// The next folder to be listed, if one more may be: to be begun, or left out.
    pub fn next_place(&mut self) -> Option<Place> {
        let (mut under_way, mut bytes) = (0, 0);
        for ahead in self.ahead.values() {
            match ahead {
                Ahead::UnderWay { .. } => under_way += 1,
                Ahead::Listed { bytes: listed, .. } => bytes += listed,
            }
        }
        let is_full = self.ahead.len() >= self.window.max(WINDOW_MIN);
        if is_full || under_way >= UNDER_WAY_MAX || bytes >= AHEAD_BYTES_MAX {
            return None;
        }
        let by_level = self.levels > 0;
        let open = self.parents.iter_mut().filter(|(_, of)| of.next < of.folders.len());
        let (parent, of) = open.min_by(|(_, a), (_, b)| a.cmp(b, by_level))?;
        let index = of.folders.at_rank(of.next, of.order)?;
        let key = of.below(of.next);
        of.next += 1;
        Some(Place { parent: *parent, index, key })
    }

    /// Whether a folder is ahead, or was opened lately: it is not to be begun.
    pub fn is_known(&self, dir: NodeId) -> bool {
        self.ahead.contains_key(&dir) || self.is_lately(dir)
    }

    /// The folder of a place is being listed, its node kept; what is dropped after [`Walks::ended`].
    pub fn begin(&mut self, place: Place, dir: NodeId) -> watch::Sender<()> {
        let (end, ended) = watch::channel(());
        self.ahead.insert(dir, Ahead::UnderWay { key: place.key, end: ended, is_awaited: false });
        end
    }

    /// A folder was listed, or could not be; whether it is not ahead any more.
    pub fn ended(&mut self, dir: NodeId, listed: Option<ListedAhead>, now: Instant) -> bool {
        let Some(Ahead::UnderWay { key, is_awaited, .. }) = self.ahead.remove(&dir) else { return false };
        let Some(ListedAhead { bytes, folders }) = listed else {
            self.shrink();
            self.failures += 1;
            if self.failures >= FAILURES_MAX {
                self.failures = 0;
                self.rests_until = Some(now + REST);
                self.parents.clear();
            }
            return true;
        };
        self.failures = 0;
        if let Some(folders) = folders.filter(|_| key.len() < DEPTH_MAX) {
            self.add((dir, key), folders, now);
        }
        if !is_awaited {
            self.ahead.insert(dir, Ahead::Listed { at: now, bytes });
        }
        is_awaited
    }

    /// Makes room where there is none: those that nobody came for, whose nodes need not be kept.
    pub fn expire(&mut self, now: Instant) -> Vec<NodeId> {
        if self.ahead.len() < self.window.max(WINDOW_MIN) {
            return Vec::new();
        }
        let gone = self.take_listed(|at| at + PATIENCE <= now);
        if !gone.is_empty() {
            self.shrink();
        }
        gone
    }

    /// Ends the walks that nobody was at since `before`: those ahead, whose nodes need not be kept.
    pub fn rest(&mut self, before: Instant) -> Vec<NodeId> {
        self.parents.retain(|_, of| of.used_at >= before);
        if self.parents.is_empty() { self.start_over() } else { Vec::new() }
    }

    /// Forgets all: nothing of it holds any more. Those ahead, whose nodes need not be kept; without those under way.
    pub fn clear(&mut self) -> Vec<NodeId> {
        self.parents.clear();
        self.lately.clear();
        self.start_over()
    }

    fn start_over(&mut self) -> Vec<NodeId> {
        (self.window, self.hits, self.names, self.levels) = (WINDOW_MIN, 0, 0, 0);
        self.take_listed(|_| true)
    }

    fn take_listed(&mut self, is_gone: impl Fn(Instant) -> bool) -> Vec<NodeId> {
        let gone =
            self.ahead.extract_if(|_, ahead| matches!(ahead, Ahead::Listed { at, .. } if is_gone(*at)));
        gone.map(|(dir, _)| dir).collect()
    }

    fn is_lately(&self, dir: NodeId) -> bool {
        self.lately.iter().any(|(other, _)| *other == dir)
    }

    fn hit(&mut self) {
        self.window = self.window.max(WINDOW_MIN);
        self.hits += 1;
        if self.hits >= self.window / 2 {
            self.hits = 0;
            self.window = (self.window * 2).min(WINDOW_MAX);
        }
    }

    fn shrink(&mut self) {
        self.hits = 0;
        self.window = (self.window / 2).max(WINDOW_MIN);
    }

    /// After a folder with folders in it, comes one of those, or the one beside it?
    fn vote_levels(&mut self, (parent, dir): (NodeId, NodeId)) {
        let Some((above, last)) = self.last.replace((parent, dir)) else { return };
        let has_folders = || self.parents.get(&last).is_some_and(|of| !of.folders.is_empty());
        if last == parent {
            vote(&mut self.levels, -1);
        } else if above == parent && has_folders() {
            vote(&mut self.levels, 1);
        }
    }

    /// The folder at a place was opened; its key.
    fn advance(&mut self, parent: NodeId, place: usize) -> Key {
        let Some(of) = self.parents.get_mut(&parent) else { return Key::new() };
        match of.folders.order(of.last, place) {
            Some(Order::Names) => vote(&mut self.names, 1),
            Some(Order::Listing) => vote(&mut self.names, -1),
            None => {}
        }
        let order = order_of(self.names);
        let rank = of.folders.rank(place, order);
        of.next = if of.order == order { of.next.max(rank + 1) } else { rank + 1 };
        (of.order, of.last) = (order, Some(place));
        of.below(rank)
    }

    /// Takes the folders of a folder in, in place of those used longest ago if need be.
    fn add(&mut self, (dir, key): (NodeId, Key), folders: Subfolders, now: Instant) {
        if folders.is_empty() || self.parents.contains_key(&dir) {
            return;
        }
        loop {
            let places: usize = self.parents.values().map(|of| of.folders.len()).sum();
            if self.parents.len() < PARENTS_MAX && places + folders.len() <= PLACES_MAX {
                break;
            }
            let oldest = self.parents.iter().min_by_key(|(dir, of)| (of.used_at, **dir));
            let Some(oldest) = oldest.map(|(dir, _)| *dir) else { break };
            self.parents.remove(&oldest);
        }
        let order = order_of(self.names);
        self.parents.insert(dir, Parent { folders, key, order, next: 0, last: None, used_at: now });
    }
}

impl Parent {
    /// The key of the folder of a rank.
    fn below(&self, rank: usize) -> Key {
        let mut key = self.key.clone();
        key.push(u32::try_from(rank).unwrap_or(u32::MAX));
        key
    }

    /// Whose next folder comes first.
    fn cmp(&self, other: &Parent, by_level: bool) -> Ordering {
        let depth = if by_level { self.key.len().cmp(&other.key.len()) } else { Ordering::Equal };
        let rank = |of: &Parent| u32::try_from(of.next).unwrap_or(u32::MAX);
        let keys = || {
            let (this, that) = ([rank(self)], [rank(other)]);
            self.key.iter().chain(&this).cmp(other.key.iter().chain(&that))
        };
        depth.then_with(keys)
    }
}

fn vote(votes: &mut i8, by: i8) {
    *votes = (*votes + by).clamp(-VOTES_MAX, VOTES_MAX);
}

fn order_of(names: i8) -> Order {
    if names > 0 { Order::Names } else { Order::Listing }
}

#[cfg(test)]
mod tests;
