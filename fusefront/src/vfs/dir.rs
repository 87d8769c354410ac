//! Open directories: the host's pages, and the offsets that programs see.
//!
//! An offset names the place after an entry, so that a program may stop and go on there, also after a reconnect: it
//! is made from the host's cookie alone, and nothing is remembered for it.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;
use tokio::{sync::oneshot, task::AbortHandle};
use wire::{Entry, FileId, limits};

use super::{
    folders::{FolderListing, Taking},
    inode::NodeId,
};
use crate::error::VfsError;

/// Bytes asked for at first: about 700 entries with their attributes.
pub const FIRST_PAGE_BYTES: u32 = 128 * 1024;

/// Bytes of each page after it: who goes on wants all.
pub const PAGE_BYTES: u32 = limits::LISTING_BYTES_MAX;

/// Bytes of the first page from a host close by: who lists begins on it while the host looks at the next ones.
const NEAR_FIRST_BYTES: u32 = 16 * 1024;

/// Bytes of an entry with its attributes, about.
const ENTRY_BYTES: u32 = 128;

/// Entries of a listing in memory that are unpacked at once.
const MEMORY_PAGE_ENTRIES: usize = 512;

/// The offset after `.`, which is the first entry; 0 is the start.
pub const AFTER_DOT: u64 = 1;
/// The offset after `..`, the second: the host's entries start here.
pub const AFTER_DOT_DOT: u64 = 2;

/// Entries of one pass over a directory: far beyond any real one. A host that never comes to an end is stopped here.
pub const ENTRIES_MAX: u64 = 1 << 24;

/// The largest offset that `telldir` can give: `off_t` is signed.
const OFFSET_MAX: u64 = i64::MAX.unsigned_abs();

/// The offset of a host's cookie: two further on, to make room for `.` and `..`, which the host leaves out.
///
/// The last three of the signed range are one: no file system has an entry there but ext4 and btrfs the end of the
/// directory, at the very last. Cookies of the unsigned half, which some network file systems give, stay as they are.
pub fn offset_of(cookie: u64) -> u64 {
    if cookie > OFFSET_MAX { cookie } else { (cookie + AFTER_DOT_DOT).min(OFFSET_MAX) }
}

/// The host's cookie of an offset, [`AFTER_DOT_DOT`] or above.
pub fn cookie_of(offset: u64) -> u64 {
    if offset >= OFFSET_MAX { offset } else { offset.saturating_sub(AFTER_DOT_DOT) }
}

/// One page of a directory, as the host gave it.
#[derive(Debug)]
pub struct Page {
    /// The cookie it was asked for.
    pub start: u64,
    /// Its entries.
    pub entries: Vec<Entry>,
    /// Whether nothing follows it.
    pub end: bool,
}

impl Page {
    /// Whether who lists it gets on: each entry has a place of its own, and there is one unless this is the end.
    ///
    /// # Errors
    /// [`VfsError::Protocol`] when not: a program would go round in circles.
    pub fn check(&self) -> Result<(), VfsError> {
        let broken = |reason: &str| Err(VfsError::Protocol { reason: reason.to_owned() });
        if self.entries.is_empty() && !self.end {
            return broken("a page of a listing without entries that is not the last");
        }
        let mut places = HashSet::with_capacity(self.entries.len() + 1);
        places.insert(offset_of(self.start));
        if self.entries.iter().all(|entry| places.insert(offset_of(entry.cookie))) {
            Ok(())
        } else {
            broken("a page of a listing with two entries at one place")
        }
    }

    /// The index of the entry that `offset` continues with, or of the page's end; `None` when the page does not tell.
    pub fn index_of(&self, offset: u64) -> Option<usize> {
        if offset == offset_of(self.start) {
            return Some(0);
        }
        let last = self.entries.iter().position(|entry| offset_of(entry.cookie) == offset)?;
        Some(last + 1)
    }

    /// The cookie of the page that follows; `None` when none does.
    pub fn next(&self) -> Option<u64> {
        if self.end { None } else { self.entries.last().map(|entry| entry.cookie) }
    }
}

/// Where to go on in a directory.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The page.
    pub page: Arc<Page>,
    /// The index of the next entry in it.
    pub index: usize,
}

/// The page that follows, being fetched.
pub struct Ahead {
    /// Its cookie.
    pub cookie: u64,
    /// Where it comes.
    pub outcome: oneshot::Receiver<Result<Arc<Page>, VfsError>>,
    /// Calls it off.
    pub abort: AbortHandle,
}

/// One open directory. Holds at most two pages.
pub struct OpenDir {
    /// Which directory.
    pub node: NodeId,
    /// The file it was when opened.
    pub id: FileId,
    paging: Mutex<Paging>,
}

#[derive(Default)]
struct Paging {
    page: Option<Arc<Page>>,
    /// The listing that the pages come from, where memory has it.
    memory: Option<Arc<FolderListing>>,
    /// The listing that the host's pages are taken in to.
    taking: Option<Taking>,
    /// Whether the page in hand was served from its start: who comes there again rewound, and sees the directory
    /// as it is then (rewinddir(3)).
    started: bool,
    ahead: Option<Ahead>,
    pass: Pass,
}

/// One pass over a directory, page by page from where it began: it must come to an end.
#[derive(Default)]
pub(super) struct Pass {
    /// The cookie of the page that comes next; another one begins a new pass.
    next: Option<u64>,
    pages: u64,
    entries: u64,
    /// The cookie of an earlier page of the pass: that of the latest whose number is a power of two, so that a circle
    /// of any length is met (Brent's algorithm).
    mark: Option<u64>,
}

impl Pass {
    /// The cookie of the page that comes next; zero at the beginning.
    pub(super) fn cookie(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    /// Takes a page in.
    ///
    /// # Errors
    /// [`VfsError::Protocol`] for a pass without an end.
    pub(super) fn turn_to(&mut self, page: &Page) -> Result<(), VfsError> {
        if self.next != Some(page.start) {
            *self = Pass::default();
        }
        self.pages += 1;
        self.entries += page.entries.len() as u64;
        self.next = page.next();
        if self.mark == Some(page.start) {
            return Err(VfsError::Protocol { reason: "a listing that goes round in circles".to_owned() });
        }
        if self.entries > ENTRIES_MAX {
            return Err(VfsError::Protocol {
                reason: format!("a listing of more than {ENTRIES_MAX} entries"),
            });
        }
        if self.pages.is_power_of_two() {
            self.mark = Some(page.start);
        }
        Ok(())
    }
}

impl OpenDir {
    /// A directory opened with its first page in hand, or with none.
    pub fn new(node: NodeId, id: FileId, first: Option<Arc<Page>>) -> OpenDir {
        let mut paging = Paging { page: first, ..Paging::default() };
        if let Some(first) = &paging.page {
            // The first page of a pass is never too much.
            let _ = paging.pass.turn_to(first);
        }
        OpenDir { node, id, paging: Mutex::new(paging) }
    }

    /// Bytes to ask for as a page, after one of so many entries or as the first. A host close by is asked for twice as much
    /// each time: it takes about half as long for an entry as the kernel does to take it in, so neither waits for the other.
    pub fn page_bytes(is_near: bool, before: Option<usize>) -> u32 {
        match before.map(|entries| u32::try_from(entries).unwrap_or(u32::MAX)) {
            None if is_near => NEAR_FIRST_BYTES,
            None => FIRST_PAGE_BYTES,
            Some(entries) if is_near => {
                entries.saturating_mul(2 * ENTRY_BYTES).clamp(NEAR_FIRST_BYTES, PAGE_BYTES)
            }
            Some(_) => PAGE_BYTES,
        }
    }

    /// Entries of the page in hand, if the one at `cookie` follows it.
    pub fn entries_before(&self, cookie: u64) -> Option<usize> {
        let page = self.paging.lock().page.clone()?;
        (page.next() == Some(cookie)).then_some(page.entries.len())
    }

    /// A directory whose listing memory has.
    pub fn remembering(node: NodeId, id: FileId, listing: Arc<FolderListing>) -> OpenDir {
        let first = Arc::new(listing.page(0, MEMORY_PAGE_ENTRIES));
        let dir = OpenDir::new(node, id, Some(first));
        dir.paging.lock().memory = Some(listing);
        dir
    }

    /// Where `offset` goes on, if that is in the page in hand and something follows there, or the directory ends.
    pub fn cursor(&self, offset: u64) -> Option<Cursor> {
        let mut paging = self.paging.lock();
        if offset < AFTER_DOT && std::mem::replace(&mut paging.started, true) {
            paging.page = None;
        }
        let page = paging.page.clone()?;
        let index = page.index_of(offset.max(AFTER_DOT_DOT))?;
        (index < page.entries.len() || page.end).then_some(Cursor { page, index })
    }

    /// Where `offset` goes on in a listing that memory has: the one begun with, or `fresh` from its start.
    pub fn remembered(
        &self,
        offset: u64,
        fresh: impl FnOnce() -> Option<Arc<FolderListing>>,
    ) -> Option<Arc<Page>> {
        let mut paging = self.paging.lock();
        if offset < AFTER_DOT {
            paging.memory = fresh();
        }
        let memory = paging.memory.clone()?;
        let found = memory.by_offset(offset);
        if found.is_none() {
            paging.memory = None;
        }
        found.map(|index| Arc::new(memory.page(index, MEMORY_PAGE_ENTRIES)))
    }

    /// The listing in memory that it shows.
    pub fn memory(&self) -> Option<Arc<FolderListing>> {
        self.paging.lock().memory.clone()
    }

    /// The listing that a pass of the host's pages is taken in to.
    pub fn taken_in(&self) -> Option<Taking> {
        self.paging.lock().taking
    }

    /// Whether what it shows comes from memory.
    pub fn is_remembered(&self) -> bool {
        self.paging.lock().memory.is_some()
    }

    /// The listing that a page of the host is taken in to, which comes with the first page.
    pub fn taking(&self, cookie: u64, fresh: impl FnOnce() -> Option<Taking>) -> Option<Taking> {
        let mut paging = self.paging.lock();
        if cookie == 0 {
            paging.taking = fresh();
        }
        paging.taking
    }

    /// Takes the page being fetched if it is the one at `cookie`; calls it off if it is another.
    pub fn take_ahead(&self, cookie: u64) -> Option<Ahead> {
        let ahead = self.paging.lock().ahead.take()?;
        if ahead.cookie == cookie {
            return Some(ahead);
        }
        ahead.abort.abort();
        None
    }

    /// Makes `page` the one in hand.
    ///
    /// # Errors
    /// [`VfsError::Protocol`] when a listing comes to no end.
    pub fn turn_to(&self, page: Arc<Page>) -> Result<(), VfsError> {
        let mut paging = self.paging.lock();
        paging.pass.turn_to(&page)?;
        paging.started |= page.start == 0;
        paging.page = Some(page);
        Ok(())
    }

    /// Keeps a page that is being fetched; one kept before is called off.
    pub fn keep_ahead(&self, ahead: Ahead) {
        if let Some(old) = self.paging.lock().ahead.replace(ahead) {
            old.abort.abort();
        }
    }

    /// Whether the page at `cookie` is being fetched.
    pub fn fetches(&self, cookie: u64) -> bool {
        self.paging.lock().ahead.as_ref().is_some_and(|ahead| ahead.cookie == cookie)
    }
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        if let Some(ahead) = &self.paging.get_mut().ahead {
            ahead.abort.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::{FileKind, Name};

    use super::*;

    fn page(start: u64, cookies: &[u64], end: bool) -> Arc<Page> {
        let entry = |&cookie: &u64| Entry {
            name: Name::new(format!("e{cookie}").as_bytes()).unwrap(),
            cookie,
            kind: Some(FileKind::Regular),
            attr: None,
        };
        Arc::new(Page { start, entries: cookies.iter().map(entry).collect(), end })
    }

    fn dir(first: Arc<Page>) -> OpenDir {
        OpenDir::new(NodeId(5), FileId { fs: 1, inode: 5, birth: 1 }, Some(first))
    }

    fn index(dir: &OpenDir, offset: u64) -> Option<usize> {
        dir.cursor(offset).map(|cursor| cursor.index)
    }

    #[test]
    fn the_end_of_an_ext4_directory_is_a_valid_offset() {
        let end = OFFSET_MAX;
        assert_eq!(offset_of(end), end);
        assert_eq!(cookie_of(offset_of(end)), end);
        assert_eq!(offset_of(0), AFTER_DOT_DOT);
    }

    #[test]
    fn the_dots_and_the_first_entry_come_from_the_first_page() {
        let dir = dir(page(0, &[4, 9], true));
        assert_eq!(index(&dir, 0), Some(0));
        assert_eq!(index(&dir, AFTER_DOT), Some(0));
        assert_eq!(index(&dir, AFTER_DOT_DOT), Some(0));
        assert_eq!(index(&dir, offset_of(4)), Some(1));
        assert_eq!(index(&dir, offset_of(9)), Some(2), "the end");
        assert_eq!(index(&dir, offset_of(5)), None, "no such place in this page");
    }

    #[test]
    fn the_end_of_a_page_is_not_the_end_of_the_directory() {
        let dir = dir(page(0, &[4, 9], false));
        assert_eq!(index(&dir, offset_of(4)), Some(1));
        assert_eq!(index(&dir, offset_of(9)), None);
        dir.turn_to(page(9, &[12], true)).unwrap();
        assert_eq!(index(&dir, offset_of(9)), Some(0));
        assert_eq!(index(&dir, offset_of(4)), None, "seekdir back asks the host");
    }

    #[test]
    fn a_rewound_directory_is_asked_for_again() {
        let dir = dir(page(0, &[4], true));
        assert_eq!(index(&dir, 0), Some(0));
        assert_eq!(index(&dir, 0), None);
        dir.turn_to(page(0, &[4, 5], true)).unwrap();
        assert_eq!(index(&dir, AFTER_DOT_DOT), Some(0));
        assert_eq!(index(&dir, 0), None, "and again");
    }

    #[test]
    fn pages_that_lead_nowhere_are_refused() {
        assert!(page(0, &[4, 9], false).check().is_ok());
        assert!(page(0, &[], true).check().is_ok());
        let all_end = [i64::MAX.unsigned_abs() - 1, i64::MAX.unsigned_abs()];
        let nowhere: [(u64, &[u64]); 5] = [(3, &[]), (0, &[4, 4]), (9, &[4, 9]), (0, &[0]), (0, &all_end)];
        for (start, cookies) in nowhere {
            let outcome = page(start, cookies, false).check();
            assert!(matches!(outcome, Err(VfsError::Protocol { .. })), "{start} {cookies:?}");
        }
    }

    /// Pages taken in turn, each begun where the last one ended, until one is refused.
    fn turns(dir: &OpenDir, next: impl Fn(u64) -> u64, most: u64) -> u64 {
        let mut at = 0;
        let mut refused = |_: &u64| {
            let start = at;
            at = next(start);
            dir.turn_to(page(start, &[at], false)).is_err()
        };
        (0..most).find(|turn| refused(turn)).unwrap_or(most)
    }

    proptest! {
        #[test]
        fn a_listing_that_goes_round_is_stopped_soon(before in 0..200u64, circle in 2..200u64) {
            let dir = dir(page(0, &[1], false));
            let next = |at: u64| if at < before + circle { at + 1 } else { before + 1 };
            let seen = turns(&dir, next, 10_000);
            prop_assert!(seen > circle && seen < 4 * (before + circle) + 4, "{seen}");
        }
    }

    #[test]
    fn a_listing_without_end_is_stopped_and_one_begun_again_is_not() {
        let dir = dir(page(0, &[1], false));
        assert_eq!(turns(&dir, |at| at + 1, 5_000), 5_000);
        dir.paging.lock().pass.entries = ENTRIES_MAX;
        assert!(dir.turn_to(page(5_000, &[5_001], false)).is_err());
        assert!(dir.turn_to(page(0, &[1], false)).is_ok());
        assert!(dir.turn_to(page(1, &[2], false)).is_ok());
    }

    proptest! {
        #[test]
        fn an_offset_leads_back_to_its_cookie(cookie in 0..OFFSET_MAX - 2) {
            prop_assert_eq!(cookie_of(offset_of(cookie)), cookie);
            prop_assert!(offset_of(cookie) <= OFFSET_MAX, "telldir's answer is not negative");
            prop_assert!(offset_of(cookie) > AFTER_DOT);
        }

        #[test]
        fn unsigned_cookies_stay_as_they_are(cookie in OFFSET_MAX + 1..) {
            prop_assert_eq!(cookie_of(offset_of(cookie)), cookie);
        }
    }
}
