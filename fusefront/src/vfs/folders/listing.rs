//! One directory's entries in memory: packed, in the host's order, found by name.
//!
//! About 60 bytes an entry with a short name: what the files of a directory have in common (owner, mode, device) is kept
//! once, and times that are equal are.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use wire::{Attr, ByteLen, Entry, FileId, FileKind, Name, Timestamp};

use crate::vfs::dir::{AFTER_DOT_DOT, Page, offset_of};

/// How far back an entry looks for one that it has owner, mode and device in common with.
const SHARED_LOOK_BACK: usize = 8;

const HAS_ATTR: u8 = 1;
const SETTLED: u8 = 2;
const CTIME_IS_MTIME: u8 = 4;
const ATIME_IS_MTIME: u8 = 8;
const KIND_SHIFT: u8 = 4;
const KIND_BITS: u8 = 7;

/// What many entries have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shared {
    fs: u64,
    kind: FileKind,
    perm: u16,
    links: u32,
    uid: u32,
    gid: u32,
    rdev: u32,
    block_bytes: u32,
}

/// The entries of a directory, or of its first pages.
pub struct FolderListing {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    index: HashTable<u32>,
    shared: Vec<Shared>,
    hasher: RandomState,
    /// The last cookie, while each was greater than the one before.
    rising: Option<u64>,
}

impl Default for FolderListing {
    fn default() -> Self {
        FolderListing {
            bytes: Vec::new(),
            starts: Vec::new(),
            index: HashTable::new(),
            shared: Vec::new(),
            hasher: RandomState::new(),
            rising: Some(0),
        }
    }
}

impl FolderListing {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Whether some file in it has several names: what is said of such a file is out of date at any time.
    pub fn has_linked(&self) -> bool {
        self.shared.iter().any(|shared| shared.links > 1 && shared.kind != FileKind::Directory)
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity()
            + self.starts.capacity() * size_of::<u32>()
            + self.index.allocation_size()
            + self.shared.capacity() * size_of::<Shared>()
    }

    /// The entry at `index`, in the host's order.
    ///
    /// # Panics
    /// When there is none.
    pub fn entry(&self, index: usize) -> Entry {
        let mut from = self.at(index);
        let name = from.name();
        // A name was one when it was put in.
        let name = Name::new(name).expect("names in a listing are names");
        let flags = from.byte();
        let cookie = from.fixed();
        let kind = (flags >> KIND_SHIFT) & KIND_BITS;
        let kind = kind.checked_sub(1).and_then(|index| FileKind::ALL.get(usize::from(index)).copied());
        let attr = (flags & HAS_ATTR != 0).then(|| self.attr(&mut from, flags));
        Entry { name, cookie, kind, attr }
    }

    /// The name of the entry at `index`.
    ///
    /// # Panics
    /// When there is none.
    pub fn name(&self, index: usize) -> &[u8] {
        self.at(index).name()
    }

    /// Whether the entry at `index` is a directory.
    ///
    /// # Panics
    /// When there is none.
    pub fn is_dir(&self, index: usize) -> bool {
        let mut from = self.at(index);
        from.name();
        let flags = from.byte();
        let kind = (flags >> KIND_SHIFT) & KIND_BITS;
        let kind = kind.checked_sub(1).and_then(|index| FileKind::ALL.get(usize::from(index)).copied());
        let kind = kind.or_else(|| self.entry(index).attr.map(|attr| attr.kind));
        kind == Some(FileKind::Directory)
    }

    /// Where the entry of this name is. Of a name that is there twice, the later one counts.
    pub fn position(&self, name: &Name) -> Option<usize> {
        let hash = self.hasher.hash_one(name.as_bytes());
        let is_it = |index: &u32| self.at(*index as usize).name() == name.as_bytes();
        self.index.find(hash, is_it).map(|&index| index as usize)
    }

    /// The index of the entry that a program at `offset` (see [`super::super::dir`]) sees next; the number of entries at
    /// the end; `None` where no entry ends there.
    pub fn by_offset(&self, offset: u64) -> Option<usize> {
        if offset <= AFTER_DOT_DOT {
            return Some(0);
        }
        let last = if self.rising.is_some() {
            let after = |index: &usize| offset_of(self.cookie(*index)) < offset;
            let (mut low, mut high) = (0, self.len());
            while low < high {
                let middle = low + (high - low) / 2;
                if after(&middle) { low = middle + 1 } else { high = middle }
            }
            (low < self.len() && offset_of(self.cookie(low)) == offset).then_some(low)?
        } else {
            (0..self.len()).find(|&index| offset_of(self.cookie(index)) == offset)?
        };
        Some(last + 1)
    }

    /// The entries from `index` on, at most `most`, as a page of the host would have them.
    pub fn page(&self, index: usize, most: usize) -> Page {
        let end = self.len().min(index.saturating_add(most));
        let start = index.checked_sub(1).map_or(0, |last| self.cookie(last));
        Page { start, entries: (index..end).map(|index| self.entry(index)).collect(), end: end == self.len() }
    }

    /// Puts an entry at the end. One that would not fit into 4 GiB is left out.
    pub(in crate::vfs) fn push(&mut self, entry: &Entry) {
        let (Ok(start), Ok(index)) = (u32::try_from(self.bytes.len()), u32::try_from(self.starts.len()))
        else {
            return;
        };
        let name = entry.name.as_bytes();
        self.rising = self.rising.filter(|last| entry.cookie > *last).map(|_| entry.cookie);
        self.bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(name);
        let kind = entry.kind.and_then(|kind| FileKind::ALL.iter().position(|&other| other == kind));
        // Seven kinds, so three bits hold them and their absence.
        let kind = kind.map_or(0, |index| (u8::try_from(index).unwrap_or(0) + 1) & KIND_BITS);
        let mut flags = kind << KIND_SHIFT;
        if let Some(attr) = &entry.attr {
            flags |= HAS_ATTR;
            flags |= if attr.settled { SETTLED } else { 0 };
            flags |= if attr.ctime == attr.mtime { CTIME_IS_MTIME } else { 0 };
            flags |= if attr.atime == attr.mtime { ATIME_IS_MTIME } else { 0 };
        }
        self.bytes.push(flags);
        self.bytes.extend_from_slice(&entry.cookie.to_le_bytes());
        if let Some(attr) = &entry.attr {
            self.push_attr(attr, flags);
        }
        self.starts.push(start);
        let hash = self.hasher.hash_one(name);
        let (bytes, starts, hasher) = (&self.bytes, &self.starts, &self.hasher);
        let name_at = |index: u32| Packed::at(bytes, starts[index as usize]).name();
        match self.index.find_mut(hash, |&other| name_at(other) == name) {
            Some(earlier) => *earlier = index,
            None => {
                self.index.insert_unique(hash, index, |&other| hasher.hash_one(name_at(other)));
            }
        }
    }

    /// Gives back what room it took for more entries.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.starts.shrink_to_fit();
        self.shared.shrink_to_fit();
    }

    fn push_attr(&mut self, attr: &Attr, flags: u8) {
        let shared = Shared {
            fs: attr.id.fs,
            kind: attr.kind,
            perm: attr.perm,
            links: attr.links,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            block_bytes: attr.block_bytes,
        };
        let known = self.shared.iter().rev().take(SHARED_LOOK_BACK).position(|other| *other == shared);
        let index = match known {
            Some(back) => self.shared.len() - 1 - back,
            None => {
                self.shared.push(shared);
                self.shared.len() - 1
            }
        };
        let bytes = &mut self.bytes;
        put(bytes, index as u64);
        put(bytes, attr.id.inode);
        bytes.extend_from_slice(&attr.id.birth.to_le_bytes());
        put(bytes, attr.size.0);
        put(bytes, attr.blocks);
        put_time(bytes, attr.mtime);
        if flags & CTIME_IS_MTIME == 0 {
            put_time(bytes, attr.ctime);
        }
        if flags & ATIME_IS_MTIME == 0 {
            put_time(bytes, attr.atime);
        }
    }

    fn attr(&self, from: &mut Packed<'_>, flags: u8) -> Attr {
        let shared = self.shared[usize::try_from(from.number()).unwrap_or(usize::MAX)];
        let id = FileId { fs: shared.fs, inode: from.number(), birth: from.fixed() };
        let (size, blocks) = (ByteLen(from.number()), from.number());
        let mtime = from.time();
        let ctime = if flags & CTIME_IS_MTIME == 0 { from.time() } else { mtime };
        let atime = if flags & ATIME_IS_MTIME == 0 { from.time() } else { mtime };
        Attr {
            id,
            kind: shared.kind,
            perm: shared.perm,
            links: shared.links,
            uid: shared.uid,
            gid: shared.gid,
            rdev: shared.rdev,
            block_bytes: shared.block_bytes,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            settled: flags & SETTLED != 0,
        }
    }

    fn cookie(&self, index: usize) -> u64 {
        let mut from = self.at(index);
        from.name();
        from.byte();
        from.fixed()
    }

    fn at(&self, index: usize) -> Packed<'_> {
        Packed::at(&self.bytes, self.starts[index])
    }
}

/// Reads what [`FolderListing::push`] wrote, and only that: it panics on anything else.
struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    fn at(bytes: &'a [u8], start: u32) -> Packed<'a> {
        Packed(&bytes[start as usize..])
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn name(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.take(len)
    }

    fn fixed(&mut self) -> u64 {
        let (bytes, rest) = self.0.split_first_chunk().expect("eight bytes were written");
        self.0 = rest;
        u64::from_le_bytes(*bytes)
    }

    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return number;
            }
            shift += 7;
        }
    }

    fn time(&mut self) -> Timestamp {
        let secs = i64::from_le_bytes(self.fixed().to_le_bytes());
        Timestamp { secs, nanos: u32::try_from(self.number()).unwrap_or(0) }
    }
}

/// Seven bits a byte, the low ones first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or(0));
}

fn put_time(bytes: &mut Vec<u8>, time: Timestamp) {
    bytes.extend_from_slice(&time.secs.to_le_bytes());
    put(bytes, time.nanos.into());
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_time()(secs in any::<i64>(), nanos in 0..1_000_000_000_u32) -> Timestamp {
            Timestamp { secs, nanos }
        }
    }

    prop_compose! {
        fn any_attr()(
            (fs, inode, birth) in (0..3_u64, any::<u64>(), any::<u64>()),
            kind in 0..7_usize,
            (perm, links, uid, gid) in (0..0o10000_u16, any::<u32>(), any::<u32>(), 0..2_u32),
            (rdev, block_bytes) in (any::<u32>(), any::<u32>()),
            (size, blocks) in (any::<u64>(), any::<u64>()),
            (atime, mtime, ctime) in (any_time(), any_time(), any_time()),
            (same, settled) in (any::<bool>(), any::<bool>()),
        ) -> Attr {
            Attr {
                id: FileId { fs, inode, birth },
                kind: FileKind::ALL[kind],
                perm, links, uid, gid, rdev, block_bytes,
                size: ByteLen(size),
                blocks,
                atime: if same { mtime } else { atime },
                mtime,
                ctime: if same { mtime } else { ctime },
                settled,
            }
        }
    }

    prop_compose! {
        fn any_entry()(
            name in proptest::collection::vec(1..=255_u8, 1..=255),
            cookie in any::<u64>(),
            kind in proptest::option::of(0..7_usize),
            attr in proptest::option::of(any_attr()),
        ) -> Entry {
            let name = Name::new(&name).unwrap_or_else(|_| Name::new(b"x").unwrap());
            Entry { name, cookie, kind: kind.map(|kind| FileKind::ALL[kind]), attr }
        }
    }

    proptest! {
        #[test]
        fn entries_come_out_as_they_went_in(entries in proptest::collection::vec(any_entry(), 0..40)) {
            let mut listing = FolderListing::default();
            for entry in &entries {
                listing.push(entry);
            }
            prop_assert_eq!(listing.len(), entries.len());
            for (index, entry) in entries.iter().enumerate() {
                prop_assert_eq!(&listing.entry(index), entry);
                let last = entries.iter().rposition(|other| other.name == entry.name);
                prop_assert_eq!(listing.position(&entry.name), last);
            }
            let page = listing.page(0, usize::MAX);
            prop_assert_eq!((page.start, page.end), (0, true));
            prop_assert_eq!(page.entries, entries);
        }

        #[test]
        fn an_offset_leads_to_the_entry_after_it(mut cookies in proptest::collection::vec(1..u64::MAX / 4, 1..60), rise in any::<bool>()) {
            if rise {
                cookies.sort_unstable();
            }
            cookies.dedup();
            let mut listing = FolderListing::default();
            for (index, &cookie) in cookies.iter().enumerate() {
                let name = Name::new(format!("n{index}").as_bytes()).unwrap();
                listing.push(&Entry { name, cookie, kind: None, attr: None });
            }
            for (index, &cookie) in cookies.iter().enumerate() {
                let first = cookies.iter().position(|&other| other == cookie).unwrap();
                let found = listing.by_offset(offset_of(cookie));
                prop_assert_eq!(found, Some(first + 1));
                prop_assert_eq!(listing.page(index + 1, 3).start, cookie);
            }
            prop_assert_eq!(listing.by_offset(0), Some(0));
            prop_assert_eq!(listing.by_offset(AFTER_DOT_DOT), Some(0));
            prop_assert_eq!(listing.by_offset(u64::MAX / 2), None);
        }
    }

    #[test]
    fn a_hundred_thousand_entries_take_seven_megabytes() {
        let mut listing = FolderListing::default();
        let time = |nanos| Timestamp { secs: 1_700_000_000, nanos };
        for number in 0..100_000_u32 {
            let attr = Attr {
                id: FileId { fs: u64::MAX, inode: 5_000_000 + u64::from(number), birth: u64::MAX - 5 },
                kind: FileKind::Regular,
                perm: 0o644,
                links: 1,
                uid: 1000,
                gid: 1000,
                rdev: 0,
                block_bytes: 4096,
                size: ByteLen(10_000),
                blocks: 24,
                atime: time(number),
                mtime: time(number + 1),
                ctime: time(number + 1),
                settled: true,
            };
            let name = Name::new(format!("file{number:06}").as_bytes()).unwrap();
            let cookie = u64::from(number) << 40;
            listing.push(&Entry { name, cookie, kind: Some(FileKind::Regular), attr: Some(attr) });
        }
        listing.shrink();
        assert!(listing.bytes() < 7_500_000, "{} bytes", listing.bytes());
    }
}
