//! A scan of one folder: which of its files were opened, and which to fetch before they are.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;
use wire::Name;

use super::{
    course::{Course, Heading},
    sequence::Sequence,
    shelf::Shelf,
};
use crate::readahead::{EXTENT_BYTES, Window, WindowBudget};

/// Files of the first window.
pub(super) const WINDOW_FILES_MIN: usize = 8;
/// Files of the largest window: at 20 ms a round trip 50,000 files a second.
const WINDOW_FILES_MAX: usize = 1024;
/// Opens in no order at all that make it likely that the whole folder is read.
const OPENS_IN_NO_ORDER: usize = 8;
/// Files beyond those visited that are looked through for some to fetch, for each file of the window.
const LOOK_AHEAD: usize = 4;
/// Opens in a row of files that were not fetched, after which the window is halved.
const MISSES_MAX: usize = 8;
/// Files that must have been of use for one that was not, so that the window goes on.
const HITS_PER_PASS: usize = 2;
/// Starts of large files fetched and not read yet, at most.
const HEADS_MAX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Untouched,
    /// Fetched, or on its way, and not opened.
    Fetched,
    /// Fetched, and others were opened in its place.
    Passed,
    Opened,
}

/// In which order files are opened.
#[derive(Debug)]
enum Order {
    None,
    Numbers(Sequence),
    Names(Heading),
    Listing(Heading),
}

/// What to fetch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// The file's place.
    pub place: usize,
    /// How much of it.
    pub part: Part,
}

/// How much of a file is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its first extent.
    Head,
}

/// A folder being read file by file.
#[derive(Debug)]
pub struct FolderScan {
    shelf: Arc<Shelf>,
    marks: Vec<Mark>,
    /// The name opened last.
    last: Option<Name>,
    sequence: Option<Sequence>,
    /// Whether the last two steps were equal.
    keeps_step: bool,
    in_listing: Option<Course>,
    in_names: Option<Course>,
    /// Whether all of it is likely to be read.
    is_expected: bool,
    opens: usize,
    window_files: usize,
    /// Opened of those fetched, since the window last grew.
    hits: usize,
    misses: usize,
    unread_files: usize,
    unread_bytes: u64,
    unread_heads: usize,
    /// Places fetched, in this order, as far as it may matter that they are unread.
    pending: VecDeque<usize>,
    /// Opened of those fetched, not yet set against those passed by.
    credit: usize,
    passed_bytes: u64,
    window: Window,
    bytes_max: u64,
    pub(super) used_at: Instant,
}

impl FolderScan {
    /// A scan of the files of a shelf, which keeps at most `bytes_max` unread.
    pub fn new(
        shelf: Arc<Shelf>,
        (window_files, bytes_max): (usize, u64),
        budget: WindowBudget,
        now: Instant,
    ) -> FolderScan {
        FolderScan {
            marks: vec![Mark::Untouched; shelf.len()],
            shelf,
            last: None,
            sequence: None,
            keeps_step: false,
            in_listing: None,
            in_names: None,
            is_expected: false,
            opens: 0,
            window_files: window_files.clamp(WINDOW_FILES_MIN, WINDOW_FILES_MAX),
            hits: 0,
            misses: 0,
            unread_files: 0,
            unread_bytes: 0,
            unread_heads: 0,
            pending: VecDeque::new(),
            credit: 0,
            passed_bytes: 0,
            window: Window::new(budget),
            bytes_max,
            used_at: now,
        }
    }

    /// The files.
    pub fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    /// Bytes fetched of files that somebody may open yet.
    pub fn unread_bytes(&self) -> u64 {
        self.unread_bytes
    }

    /// Files of the window.
    pub fn window_files(&self) -> usize {
        self.window_files
    }

    /// Whether most of the folder's files were opened.
    pub fn is_read_in_full(&self) -> bool {
        self.opens >= 4 && self.opens >= self.shelf.len() / 4 * 3
    }

    /// Takes it for likely that all files will be opened: the folders beside this one were read so.
    pub fn expect_all(&mut self) {
        self.is_expected = true;
    }

    /// A file was opened.
    pub fn opened(&mut self, name: &Name, now: Instant) {
        self.used_at = now;
        let Some(place) = self.shelf.find(name) else { return };
        let rank = self.shelf.rank(place);
        visit(&mut self.in_listing, place);
        visit(&mut self.in_names, rank);
        let sequence = self.last.as_ref().and_then(|last| Sequence::between(last, name));
        self.keeps_step = match (&self.sequence, &sequence) {
            (Some(before), Some(now)) => now.continues(before),
            _ => false,
        };
        (self.sequence, self.last) = (sequence, Some(name.clone()));
        match self.marks[place] {
            Mark::Opened => return,
            Mark::Fetched => {
                self.unfetch(place);
                self.hits += 1;
                self.credit += 1;
                self.misses = 0;
            }
            Mark::Passed => {
                self.passed_bytes = self.passed_bytes.saturating_sub(self.footprint(place));
                self.misses = 0;
            }
            Mark::Untouched => self.miss(),
        }
        self.marks[place] = Mark::Opened;
        self.opens += 1;
        // Half of the window was of use: the guess is right, and a larger one hides a longer way.
        if self.hits >= self.window_files / 2 {
            self.hits = 0;
            self.window_files = (self.window_files * 2).min(WINDOW_FILES_MAX);
        }
    }

    /// A file was not fetched after all.
    pub fn failed(&mut self, place: usize) {
        if self.marks[place] == Mark::Fetched {
            self.unfetch(place);
            // Not again: it changed, or is not for this mount.
            self.marks[place] = Mark::Opened;
        }
    }

    /// What to fetch now; none of it is named again.
    pub fn due(&mut self) -> Vec<Fetch> {
        let order = self.order();
        self.forgive(&order);
        let limit = match order {
            // All will be read, in whatever order; or as much again as was opened, twice at most.
            Order::None if self.is_expected => self.window_files,
            Order::None if self.opens < OPENS_IN_NO_ORDER => 0,
            Order::None => 2 * self.opens,
            Order::Numbers(_) | Order::Names(_) | Order::Listing(_) => self.window_files,
        };
        let room = limit.saturating_sub(self.unread_files);
        // Fewer would be many small requests.
        if room < (limit / 4).max(1) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for place in self.candidates(&order, room) {
            let Some(fetch) = self.admit(place) else { continue };
            if !self.lend(&fetch) {
                break;
            }
            self.marks[place] = Mark::Fetched;
            self.pending.push_back(place);
            found.push(fetch);
            if found.len() == room {
                break;
            }
        }
        found
    }

    /// Gives the memory back that unread files were lent; how many bytes were fetched for nothing.
    pub fn give_up(&mut self) -> u64 {
        self.window.shrink_to(0);
        self.unread_files = 0;
        self.unread_heads = 0;
        std::mem::take(&mut self.unread_bytes) + std::mem::take(&mut self.passed_bytes)
    }

    /// Takes files out of the window that were passed by, one for each [`HITS_PER_PASS`] that were of use: a guess that is
    /// mostly right goes on, one that is mostly wrong ends with its window full.
    fn forgive(&mut self, order: &Order) {
        while let Some(place) = self.pending.front().copied() {
            if self.marks[place] == Mark::Fetched {
                let is_behind = match order {
                    Order::Names(heading) => heading.is_past(self.shelf.rank(place)),
                    Order::Listing(heading) => heading.is_past(place),
                    Order::None | Order::Numbers(_) => false,
                };
                if !is_behind || self.credit < HITS_PER_PASS {
                    return;
                }
                self.credit -= HITS_PER_PASS;
                self.unfetch(place);
                self.marks[place] = Mark::Passed;
                self.passed_bytes += self.footprint(place);
            }
            self.pending.pop_front();
        }
    }

    /// The order in which files were opened lately.
    fn order(&self) -> Order {
        // Numbered by one, their names follow each other, and perhaps with gaps that numbers would not tell.
        if let Some(sequence) = self.sequence.as_ref().filter(|of| self.keeps_step && of.step().abs() != 1) {
            return Order::Numbers(sequence.clone());
        }
        let in_names = self.in_names.and_then(|course| course.heading()).map(Order::Names);
        let in_listing = || self.in_listing.and_then(|course| course.heading()).map(Order::Listing);
        in_names.or_else(in_listing).unwrap_or(Order::None)
    }

    /// Places to fetch, the most urgent first; perhaps some that need not be.
    fn candidates(&self, order: &Order, room: usize) -> Vec<usize> {
        let reach = LOOK_AHEAD * self.window_files;
        let count = self.shelf.len();
        match order {
            Order::Numbers(sequence) => {
                let steps = 1..=u32::try_from(room + self.unread_files).unwrap_or(u32::MAX);
                let names = steps.map_while(|step| sequence.after(step));
                names.filter_map(|name| self.shelf.find(&name)).collect()
            }
            Order::Names(heading) => {
                along(*heading, reach, count).map(|rank| self.shelf.at_rank(rank)).collect()
            }
            Order::Listing(heading) => along(*heading, reach, count).collect(),
            Order::None => {
                let is_fit = |place: &usize| {
                    self.marks[*place] == Mark::Untouched && self.shelf.item(*place).is_small()
                };
                (0..count).map(|rank| self.shelf.at_rank(rank)).filter(is_fit).take(room).collect()
            }
        }
    }

    /// What to fetch of the file at a place, if anything.
    fn admit(&self, place: usize) -> Option<Fetch> {
        if self.marks[place] != Mark::Untouched {
            return None;
        }
        match self.shelf.item(place).is_small() {
            true => Some(Fetch { place, part: Part::Whole }),
            false if self.unread_heads < HEADS_MAX => Some(Fetch { place, part: Part::Head }),
            false => None,
        }
    }

    /// Borrows the memory for a fetch, if there is any.
    fn lend(&mut self, fetch: &Fetch) -> bool {
        let bytes = self.footprint(fetch.place);
        let wanted = self.unread_bytes + bytes;
        if wanted > self.bytes_max {
            return false;
        }
        if wanted > self.window.bytes() {
            self.window.grow_to(wanted.next_multiple_of(EXTENT_BYTES));
            if wanted > self.window.bytes() {
                return false;
            }
        }
        self.unread_bytes = wanted;
        self.unread_files += 1;
        self.unread_heads += usize::from(fetch.part == Part::Head);
        true
    }

    fn unfetch(&mut self, place: usize) {
        self.unread_bytes = self.unread_bytes.saturating_sub(self.footprint(place));
        self.unread_files = self.unread_files.saturating_sub(1);
        if !self.shelf.item(place).is_small() {
            self.unread_heads = self.unread_heads.saturating_sub(1);
        }
    }

    /// The memory that a fetched file takes.
    fn footprint(&self, place: usize) -> u64 {
        footprint(self.shelf.item(place).version.size.0)
    }

    /// Something was opened that was not fetched.
    fn miss(&mut self) {
        // In no order, most are.
        if self.unread_files == 0 || matches!(self.order(), Order::None) {
            return;
        }
        self.misses += 1;
        if self.misses >= MISSES_MAX {
            self.misses = 0;
            self.hits = 0;
            self.window_files = (self.window_files / 2).max(WINDOW_FILES_MIN);
        }
    }
}

/// The memory that a fetched file of so many bytes takes: whole pages, an extent at most.
pub(super) fn footprint(size_bytes: u64) -> u64 {
    size_bytes.min(EXTENT_BYTES).next_multiple_of(4096)
}

fn visit(course: &mut Option<Course>, place: usize) {
    match course {
        Some(course) => course.visit(place),
        None => *course = Some(Course::new(place)),
    }
}

/// The places that a course comes to, at most `reach` of `count`.
fn along(heading: Heading, reach: usize, count: usize) -> Box<dyn Iterator<Item = usize>> {
    match heading {
        Heading::Up(from) => Box::new((from..count).take(reach)),
        Heading::Down(below) => Box::new((0..below.min(count)).rev().take(reach)),
    }
}
