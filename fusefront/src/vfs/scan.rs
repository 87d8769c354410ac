//! Recognising scans: programs that open the files of a folder one after the other. A plain state machine: opens and
//! `now` in, what to ask the host for out.
//!
//! | pattern | recognised by | fetched ahead |
//! |---|---|---|
//! | in the order of names, either way | a third open beside the stretch opened so far | the files that follow |
//! | in the order of the listing | the same | the files that follow |
//! | numbered, by a step of more than one | a third name at the same distance | the names that follow |
//! | in no order | an eighth open | as many again as were opened, twice at most |
//! | folder after folder | three quarters of the folder before were opened | from the first open on |
//! | anything else | | nothing |
//!
//! Files of up to [`SMALL_BYTES_MAX`] are fetched whole, of larger ones the first extent. A window starts at eight
//! files, doubles each time half of it was opened, is halved by eight opens in a row of what was not fetched, and what was
//! fetched for nothing stays in it: a wrong guess costs one window. All of it is lent from the mount's read-ahead budget.

mod course;
mod folder;
mod sequence;
mod shelf;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use wire::Name;

use super::inode::NodeId;
use crate::readahead::WindowBudget;
use folder::WINDOW_FILES_MIN;
pub use folder::{Fetch, FolderScan, Part};
pub use shelf::{ENTRIES_MAX, Item, SMALL_BYTES_MAX, Shelf};

/// Folders whose opens are remembered.
const FOLDERS_MAX: usize = 64;
/// Folders of whose files all are known at a time: with [`ENTRIES_MAX`] each at most.
const SCANS_MAX: usize = 8;
/// Files of all of them together.
const FILES_MAX: usize = ENTRIES_MAX;
/// Parents of folders that were read in full.
const PARENTS_MAX: usize = 64;
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
}

/// The scans of one mount.
#[derive(Debug)]
pub struct Scans {
    folders: HashMap<NodeId, Folder>,
    /// Parents of folders that were read in full, with the window that it took.
    parents: HashMap<NodeId, (usize, Instant)>,
    budget: WindowBudget,
    bytes_max: u64,
    wasted_bytes: u64,
}

impl Scans {
    /// None yet; each may keep `bytes_max` unread, lent from `budget`.
    pub fn new(budget: WindowBudget, bytes_max: u64) -> Scans {
        Scans { folders: HashMap::new(), parents: HashMap::new(), budget, bytes_max, wasted_bytes: 0 }
    }

    /// The file `name` of a folder was opened.
    pub fn opened(&mut self, (parent, dir): (NodeId, NodeId), name: &Name, now: Instant) -> Option<Wish> {
        self.make_room(dir);
        let is_expected = self.parents.contains_key(&parent);
        let fresh = || Folder { parent, used_at: now, state: State::Noticed(Vec::new()) };
        let folder = self.folders.entry(dir).or_insert_with(fresh);
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
                    self.parents.insert(parent, (scan.window_files(), now));
                }
                wish(dir, scan)
            }
            State::Left => None,
        }
    }

    /// A name of a folder was looked up that memory did not have: its files are listed before the first is opened, where
    /// those of the folders beside it were all read.
    pub fn looked_up(&mut self, (parent, dir): (NodeId, NodeId), now: Instant) -> Option<Wish> {
        if !self.parents.contains_key(&parent) || self.folders.contains_key(&dir) {
            return None;
        }
        self.make_room(dir);
        self.folders.insert(dir, Folder { parent, used_at: now, state: State::Listing(Vec::new()) });
        Some(Wish::List(dir))
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
        let window = self.parents.get(&folder.parent).map(|(window, _)| *window);
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
        self.parents.retain(|_, (_, used_at)| *used_at >= before);
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
            let oldest = self.parents.iter().min_by_key(|(dir, of)| (of.1, **dir)).map(|(dir, _)| *dir);
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
