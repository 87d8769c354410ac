//! Index pages in memory: those not written yet, and the ones read last.

use std::collections::{HashMap, VecDeque};

use super::format::{Page, Record};

/// Pages kept that the disk has too: 512 KiB, the index of up to 900 MiB.
const CLEAN_MAX: usize = 128;

/// A page of a region, by the region's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PageNo {
    pub(super) region: u64,
    pub(super) page: u32,
}

struct Held {
    page: Box<Page>,
    is_dirty: bool,
}

/// Dirty pages are as many as the writes under way fill; the clean ones are bounded.
#[derive(Default)]
pub(super) struct Pages {
    held: HashMap<PageNo, Held>,
    /// Clean pages, the one that came first in front; a page that became dirty again or was forgotten is a leftover.
    clean: VecDeque<PageNo>,
}

impl Pages {
    /// Adds a record to a page; starts the page when it is the first.
    pub(super) fn append(&mut self, at: PageNo, record: Record) {
        let held = self
            .held
            .entry(at)
            .or_insert_with(|| Held { page: Box::new(Page::new(at.region, at.page)), is_dirty: true });
        held.page.push(record);
        held.is_dirty = true;
    }

    /// A record, if its page is here.
    pub(super) fn record(&self, at: PageNo, number: usize) -> Option<Record> {
        self.held.get(&at)?.page.records().get(number).copied()
    }

    /// Keeps a page that was read.
    pub(super) fn keep(&mut self, at: PageNo, page: &Page) {
        if let std::collections::hash_map::Entry::Vacant(place) = self.held.entry(at) {
            place.insert(Held { page: Box::new(page.clone()), is_dirty: false });
            self.keep_clean(at);
        }
    }

    /// Pages to be written: the full ones, or all with something new.
    pub(super) fn dirty(&self, full_only: bool) -> Vec<PageNo> {
        let wanted = |held: &Held| held.is_dirty && (!full_only || held.page.is_full());
        let mut pages: Vec<_> =
            self.held.iter().filter(|(_, held)| wanted(held)).map(|(at, _)| *at).collect();
        pages.sort_unstable();
        pages
    }

    /// The page as it is to be written now; it counts as written from here on.
    pub(super) fn take_dirty(&mut self, at: PageNo) -> Option<Page> {
        let held = self.held.get_mut(&at).filter(|held| held.is_dirty)?;
        held.page.seal();
        held.is_dirty = false;
        let page = (*held.page).clone();
        self.keep_clean(at);
        Some(page)
    }

    /// Forgets a region's pages, which count no more.
    pub(super) fn forget(&mut self, region: u64) {
        self.held.retain(|at, _| at.region != region);
    }

    fn keep_clean(&mut self, at: PageNo) {
        self.clean.push_back(at);
        while self.clean.len() > CLEAN_MAX {
            let Some(oldest) = self.clean.pop_front() else { return };
            // A page written twice is in the queue twice; its later place counts.
            let is_again = self.clean.contains(&oldest);
            if !is_again && self.held.get(&oldest).is_some_and(|held| !held.is_dirty) {
                self.held.remove(&oldest);
            }
        }
    }
}
