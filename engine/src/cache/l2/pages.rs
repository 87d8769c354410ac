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
    /// Whether records may still be added: it must stay, for the disk's copy is overwritten by the next state of it.
    is_growing: bool,
}

/// Dirty and growing pages are as many as the writes under way fill; the others are bounded.
#[derive(Default)]
pub(super) struct Pages {
    held: HashMap<PageNo, Held>,
    /// Clean pages, the one that came first in front; a page that became dirty again or was forgotten is a leftover.
    clean: VecDeque<PageNo>,
}

impl Pages {
    /// Adds a record to a page; starts the page when it is the first.
    pub(super) fn append(&mut self, at: PageNo, record: Record) {
        let held = self.held.entry(at).or_insert_with(|| Held {
            page: Box::new(Page::new(at.region, at.page)),
            is_dirty: true,
            is_growing: true,
        });
        held.page.push(record);
        held.is_dirty = true;
        held.is_growing = !held.page.is_full();
    }

    /// A record, if its page is here.
    pub(super) fn record(&self, at: PageNo, number: usize) -> Option<Record> {
        self.held.get(&at)?.page.records().get(number).copied()
    }

    /// Keeps a page that was read.
    pub(super) fn keep(&mut self, at: PageNo, page: &Page) {
        if let std::collections::hash_map::Entry::Vacant(place) = self.held.entry(at) {
            place.insert(Held { page: Box::new(page.clone()), is_dirty: false, is_growing: false });
            self.keep_clean(at);
        }
    }

    /// Strikes a record out, if its page is here, so that it is not found in another life.
    pub(super) fn strike(&mut self, at: PageNo, number: usize, is_it: impl Fn(&Record) -> bool) {
        if let Some(held) = self.held.get_mut(&at)
            && held.page.records().get(number).is_some_and(is_it)
        {
            held.page.strike(number);
            held.is_dirty = true;
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

    /// Nothing is added any more to pages of other regions than this one.
    pub(super) fn grow_only(&mut self, region: Option<u64>) {
        let ended = |(at, held): &(&PageNo, &mut Held)| held.is_growing && Some(at.region) != region;
        let ended: Vec<_> = self
            .held
            .iter_mut()
            .filter(ended)
            .map(|(at, held)| {
                held.is_growing = false;
                *at
            })
            .collect();
        ended.into_iter().for_each(|at| self.keep_clean(at));
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
            if !is_again && self.held.get(&oldest).is_some_and(|held| !held.is_dirty && !held.is_growing) {
                self.held.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::chunk::ContentHash;

    use super::*;
    use crate::cache::key::{ContentKey, FileKey};
    use crate::cache::l2::format::Place;

    fn record(chunk: u32) -> Record {
        let place = Place { region: 1, block: 0, len: 10 };
        Record::new(ContentKey::from_halves(FileKey(1), 1), chunk, place, &ContentHash::of(b""))
    }

    fn at(page: u32) -> PageNo {
        PageNo { region: 1, page }
    }

    #[test]
    fn a_page_that_still_grows_is_kept_whatever_is_read() {
        let mut pages = Pages::default();
        pages.append(at(0), record(7));
        pages.take_dirty(at(0)).unwrap();
        let flood = |pages: &mut Pages| {
            (1..500).for_each(|page| pages.keep(PageNo { region: 2, page }, &Page::new(2, page)));
        };
        flood(&mut pages);
        pages.append(at(0), record(8));
        let written = pages.take_dirty(at(0)).unwrap();
        assert_eq!(written.records(), [record(7), record(8)], "both are on the disk after the second write");
        pages.grow_only(Some(3));
        assert!(pages.held.len() <= CLEAN_MAX + 1);
        (500..900).for_each(|page| pages.keep(PageNo { region: 2, page }, &Page::new(2, page)));
        assert_eq!(pages.record(at(0), 0), None, "the disk has it");
        assert!(pages.held.len() <= CLEAN_MAX && pages.clean.len() <= CLEAN_MAX);
    }
}
