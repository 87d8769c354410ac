//! Recognising scans: programs that open the files of a folder one after the other. A plain state machine: opens and
//! `now` in, what to ask the host for out.
//!
//! | pattern | recognised by | fetched ahead |
//! |---|---|---|
//! | in the order of names, either way | a third open beside the stretch opened so far | the files that follow |
//! | in the order of the listing | the same | the files that follow |
//! | numbered, by a step of more than one | a third name at the same distance | the names that follow |
//! | in no order | an eighth open | as many again as were opened, twice at most |
//! | folder after folder | three quarters of a folder were opened | the folders that follow, before they are come to |
//! | anything else | | nothing |
//!
//! Files of up to [`SMALL_BYTES_MAX`] are fetched whole, of larger ones the first extent. A window starts at eight
//! files, doubles each time half of it was opened, is halved by eight opens in a row of what was not fetched, and what was
//! fetched for nothing stays in it: a wrong guess costs one window. All of it is lent from the mount's read-ahead budget.
//!
//! Where a folder was read in full, the one that follows is fetched ahead; then two, and so on for as long as they are come
//! to, halved when another one is.

mod course;
mod folder;
mod parent;
mod sequence;
mod shelf;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use wire::Name;

use super::{inode::NodeId, walks::Order};
use crate::readahead::WindowBudget;
use folder::WINDOW_FILES_MIN;
pub use folder::{Fetch, FolderScan, Part};
use parent::Parent;
pub use parent::{FOLDERS_AHEAD_MAX, Next};
pub use shelf::{ENTRIES_MAX, Item, SMALL_BYTES_MAX, Shelf};

/// Folders whose opens are remembered.
const FOLDERS_MAX: usize = 128;
/// Folders of whose files all are known at a time.
const SCANS_MAX: usize = 64;
/// Files of all of them together.
const FILES_MAX: usize = ENTRIES_MAX;
/// Parents of folders that were read in full.
const PARENTS_MAX: usize = 16;
/// Opens of different files of a folder before its files are listed.
const OPENS_MIN: usize = 2;
/// Opens that are remembered while their folder is listed.
const NAMES_MAX: usize = 64;
/// A pause after which opens have nothing to do with those before.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What to do for a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// List the folder's files, and say so with [`Scans::listed`].
    List(NodeId),
    /// Fetch these of the folder's files.
    Fetch(NodeId, Vec<Fetch>),
    /// Find the folders that follow, and say so with [`Scans::expect`].
    Expect(Next),
}

#[derive(Debug)]
enum State {
    /// Opened lately.
    Noticed(Vec<Name>),
    /// Being listed; opened meanwhile.
    Listing(Vec<Name>),
    Scanned(Box<FolderScan>),
    /// Not to be scanned until this long after the last open: it has too many files, or cannot be listed.
    Left,
}

#[derive(Debug)]
struct Folder {
    parent: NodeId,
    used_at: Instant,
    state: State,
    /// Nobody came to it yet; who keeps its node for that lets it go then.
    is_ahead: bool,
}

/// The scans of one mount.
#[derive(Debug)]
pub struct Scans {
    folders: HashMap<NodeId, Folder>,
    /// Parents of folders that were read in full.
    parents: HashMap<NodeId, Parent>,
    /// Folders that are not ahead any more.
    let_go: Vec<NodeId>,
    budget: WindowBudget,
    bytes_max: u64,
    wasted_bytes: u64,
}

impl Scans {
    /// None yet; each may keep `bytes_max` unread, lent from `budget`.
    pub fn new(budget: WindowBudget, bytes_max: u64) -> Scans {
        let (folders, parents) = (HashMap::new(), HashMap::new());
        Scans { folders, parents, let_go: Vec::new(), budget, bytes_max, wasted_bytes: 0 }
    }

    /// The file `name` of a folder was opened.
    pub fn opened(&mut self, (parent, dir): (NodeId, NodeId), name: &Name, now: Instant) -> Vec<Wish> {
        let was_expected = self.parents.contains_key(&parent);
        let is_new = self.come_to((parent, dir), State::Noticed(Vec::new()), now);
        let wish = self.opened_in((parent, dir), name, now);
        let next = match was_expected {
            true if is_new => self.next(parent),
            // It was read in full, the first one there.
            false if self.parents.contains_key(&parent) => {
                self.note_visit((parent, dir), false);
                self.next(parent)
            }
            true | false => None,
        };
        wish.into_iter().chain(next.map(Wish::Expect)).collect()
    }

    fn opened_in(&mut self, (parent, dir): (NodeId, NodeId), name: &Name, now: Instant) -> Option<Wish> {
        let is_expected = self.parents.contains_key(&parent);
        let folder = self.folders.get_mut(&dir)?;
        if now.saturating_duration_since(folder.used_at) > PAUSE_MAX {
            self.wasted_bytes += folder.state.end();
            folder.state = State::Noticed(Vec::new());
        }
        folder.used_at = now;
        match &mut folder.state {
            State::Noticed(names) => {
                if !names.contains(name) {
                    names.push(name.clone());
                }
                if names.len() < OPENS_MIN && !is_expected {
                    return None;
                }
                folder.state = State::Listing(std::mem::take(names));
                Some(Wish::List(dir))
            }
            State::Listing(names) => {
                // The latest tell where the reader is.
                if names.len() >= NAMES_MAX {
                    names.remove(0);
                }
                names.push(name.clone());
                None
            }
            State::Scanned(scan) => {
                scan.opened(name, now);
                if scan.is_read_in_full() {
                    let of = self.parents.entry(parent).or_insert_with(|| Parent::new(now));
                    of.read(scan.window_files(), now);
                }
                wish(dir, scan)
            }
            State::Left => None,
        }
    }

    /// A name of a folder was looked up that memory did not have: its files are listed before the first is opened, where
    /// those of the folders beside it were all read.
    pub fn looked_up(&mut self, (parent, dir): (NodeId, NodeId), now: Instant) -> Vec<Wish> {
        if !self.parents.contains_key(&parent) || self.folders.contains_key(&dir) {
            return Vec::new();
        }
        self.come_to((parent, dir), State::Listing(Vec::new()), now);
        [Wish::List(dir)].into_iter().chain(self.next(parent).map(Wish::Expect)).collect()
    }

    /// Takes in which folders follow, the first of them first; those of them to be listed, as with [`Wish::List`]. The
    /// caller keeps their nodes until they come out of [`Scans::take_let_go`].
    pub fn expect(&mut self, parent: NodeId, dirs: &[NodeId], now: Instant) -> Vec<NodeId> {
        let mut taken = Vec::new();
        for &dir in dirs {
            if self.folders.contains_key(&dir) || self.room_ahead(parent).is_none_or(|room| room == 0) {
                continue;
            }
            self.make_room(dir);
            let state = State::Listing(Vec::new());
            self.folders.insert(dir, Folder { parent, used_at: now, state, is_ahead: true });
            if let Some(of) = self.parents.get_mut(&parent) {
                of.expect(dir);
            }
            taken.push(dir);
        }
        taken
    }

    /// The last step from folder to folder was shorter in this order.
    pub fn note_order(&mut self, parent: NodeId, order: Order) {
        if let Some(of) = self.parents.get_mut(&parent) {
            of.vote(order);
        }
    }

    /// Folders that were expected and are not any more: they were come to, or nobody came.
    pub fn take_let_go(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.let_go)
    }

    /// Somebody is at a folder; whether that is new.
    fn come_to(&mut self, (parent, dir): (NodeId, NodeId), state: State, now: Instant) -> bool {
        let was_ahead = match self.folders.get_mut(&dir) {
            Some(folder) if !folder.is_ahead => return false,
            Some(folder) => {
                folder.is_ahead = false;
                self.let_go.push(dir);
                true
            }
            None => {
                self.make_room(dir);
                self.folders.insert(dir, Folder { parent, used_at: now, state, is_ahead: false });
                false
            }
        };
        self.note_visit((parent, dir), was_ahead);
        true
    }

    fn note_visit(&mut self, (parent, dir): (NodeId, NodeId), was_ahead: bool) {
        if let Some(of) = self.parents.get_mut(&parent) {
            of.visit(dir, was_ahead);
        }
    }

    /// What to look for in a parent.
    fn next(&self, parent: NodeId) -> Option<Next> {
        let count = self.room_ahead(parent).filter(|count| *count > 0)?;
        self.parents.get(&parent)?.next(parent, count)
    }

    /// How many more folders may be ahead.
    fn room_ahead(&self, parent: NodeId) -> Option<usize> {
        let of = self.parents.get(&parent)?;
        Some(if self.unread_bytes() < self.bytes_max { of.room() } else { 0 })
    }

    /// The files of a folder, as asked for by [`Wish::List`]; `None` when it has too many or cannot be listed.
    pub fn listed(&mut self, dir: NodeId, shelf: Option<Arc<Shelf>>, now: Instant) -> Option<Wish> {
        if self.scans().count() >= SCANS_MAX {
            let oldest = self.scans().min_by_key(|(dir, scan)| (scan.used_at, *dir)).map(|(dir, _)| dir);
            oldest.into_iter().for_each(|dir| self.end(dir));
        }
        let held: usize = self.scans().map(|(_, scan)| scan.shelf().len()).sum();
        let folder = self.folders.get_mut(&dir)?;
        let State::Listing(names) = &mut folder.state else { return None };
        let names = std::mem::take(names);
        let shelf = shelf.filter(|shelf| !shelf.is_empty() && held + shelf.len() <= FILES_MAX);
        let Some(shelf) = shelf else {
            folder.state = State::Left;
            return None;
        };
        let window = self.parents.get(&folder.parent).map(Parent::window_files);
        let limits = (window.unwrap_or(WINDOW_FILES_MIN), self.bytes_max);
        let mut scan = Box::new(FolderScan::new(shelf, limits, self.budget.clone(), now));
        if window.is_some() {
            scan.expect_all();
        }
        for name in &names {
            scan.opened(name, now);
        }
        let wish = wish(dir, &mut scan);
        folder.state = State::Scanned(scan);
        wish
    }

    /// The files of a folder that is being scanned.
    pub fn shelf(&self, dir: NodeId) -> Option<Arc<Shelf>> {
        match &self.folders.get(&dir)?.state {
            State::Scanned(scan) => Some(scan.shelf().clone()),
            State::Noticed(_) | State::Listing(_) | State::Left => None,
        }
    }

    /// The file at a place could not be fetched, for a reason of its own.
    pub fn failed(&mut self, dir: NodeId, place: usize) {
        if let Some(Folder { state: State::Scanned(scan), .. }) = self.folders.get_mut(&dir) {
            scan.failed(place);
        }
    }

    /// Ends the scans of folders that were not read since `before`; which those are.
    pub fn rest(&mut self, before: Instant) -> Vec<NodeId> {
        self.parents.retain(|_, of| of.used_at() >= before);
        let idle = |folder: &Folder| folder.used_at < before;
        let ended: Vec<_> = self.folders.iter().filter(|(_, of)| idle(of)).map(|(dir, _)| *dir).collect();
        for dir in &ended {
            self.end(*dir);
        }
        ended
    }

    /// Bytes that scans fetched and nobody read, of those that ended since this was asked last.
    pub fn take_wasted_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.wasted_bytes)
    }

    /// Bytes fetched that nobody has read yet, of those under way.
    pub fn unread_bytes(&self) -> u64 {
        self.scans().map(|(_, scan)| scan.unread_bytes()).sum()
    }

    fn scans(&self) -> impl Iterator<Item = (NodeId, &FolderScan)> {
        self.folders.iter().filter_map(|(dir, folder)| match &folder.state {
            State::Scanned(scan) => Some((*dir, &**scan)),
            State::Noticed(_) | State::Listing(_) | State::Left => None,
        })
    }

    fn end(&mut self, dir: NodeId) {
        if let Some(mut folder) = self.folders.remove(&dir) {
            self.wasted_bytes += folder.state.end();
            if folder.is_ahead {
                self.let_go.push(dir);
                if let Some(of) = self.parents.get_mut(&folder.parent) {
                    of.give_up(dir);
                }
            }
        }
    }

    /// Ends the scans used longest ago, where there would be too many.
    fn make_room(&mut self, dir: NodeId) {
        if self.folders.contains_key(&dir) {
            return;
        }
        if self.folders.len() >= FOLDERS_MAX {
            let oldest = self.folders.iter().min_by_key(|(dir, of)| (of.used_at, **dir)).map(|(dir, _)| *dir);
            oldest.into_iter().for_each(|dir| self.end(dir));
        }
        if self.parents.len() >= PARENTS_MAX {
            let oldest =
                self.parents.iter().min_by_key(|(dir, of)| (of.used_at(), **dir)).map(|(dir, _)| *dir);
            self.parents.retain(|dir, _| Some(*dir) != oldest);
        }
    }
}

impl State {
    /// Bytes it fetched for nothing.
    fn end(&mut self) -> u64 {
        match self {
            State::Scanned(scan) => scan.give_up(),
            State::Noticed(_) | State::Listing(_) | State::Left => 0,
        }
    }
}

fn wish(dir: NodeId, scan: &mut FolderScan) -> Option<Wish> {
    let fetches = scan.due();
    (!fetches.is_empty()).then_some(Wish::Fetch(dir, fetches))
}

#[cfg(test)]
mod tests;
