//! The index in memory: one entry of 32 bytes for each record, found by file and chunk.
//!
//! One version of a chunk at a time: a newer one takes the older one's place. Entries live in segments that never
//! move, and a table of 4-byte numbers leads to them, so that growing copies numbers and not entries.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::cache::key::{ContentKey, FileKey};

/// Entries of a segment: 32 KiB.
const SEGMENT: usize = 1024;
/// Bytes of memory a record may cost, the table and its slack included.
#[cfg(test)]
pub(super) const RECORD_BYTES_MAX: usize = 48;

/// The number of an entry, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryNo(u32);

/// One record: whose bytes, where they are, what is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) file: u64,
    pub(super) version: u64,
    pub(super) chunk: u32,
    /// The region of its bytes, by its place in the table of regions.
    pub(super) region: u16,
    /// The region whose index holds its record; another one after [`super::L2::rekey`].
    pub(super) home: u16,
    /// The first block of its bytes.
    pub(super) block: u16,
    /// Its record's place in the index of its home.
    pub(super) slot: u16,
    state: u32,
}

const _: () = assert!(size_of::<Entry>() == 32);

const LEN_BITS: u32 = (1 << 18) - 1;
const VERIFIED: u32 = 1 << 18;
const HIT: u32 = 1 << 19;
const HITS: u32 = 3 << 19;
const LIVE: u32 = 1 << 21;

/// Where the parts of an entry are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) region: u16,
    pub(super) home: u16,
    pub(super) block: u16,
    pub(super) slot: u16,
    pub(super) len: u32,
}

impl Entry {
    /// An entry of which nothing was read yet.
    pub(super) fn new(content: ContentKey, chunk: u32, spot: Spot) -> Entry {
        let Spot { region, home, block, slot, len } = spot;
        let (file, version) = (content.file().0, content.version());
        Entry { file, version, chunk, region, home, block, slot, state: (len & LEN_BITS) | LIVE }
    }

    pub(super) fn content(&self) -> ContentKey {
        ContentKey::from_halves(FileKey(self.file), self.version)
    }

    pub(super) fn spot(&self) -> Spot {
        Spot { region: self.region, home: self.home, block: self.block, slot: self.slot, len: self.len() }
    }

    /// Bytes of the chunk.
    pub(super) fn len(&self) -> u32 {
        self.state & LEN_BITS
    }

    /// Whether its hash was checked in this life of the process.
    pub(super) fn is_verified(&self) -> bool {
        self.state & VERIFIED != 0
    }

    pub(super) fn set_verified(&mut self) {
        self.state |= VERIFIED;
    }

    pub(super) fn set_unverified(&mut self) {
        self.state &= !VERIFIED;
    }

    /// Reads so far, at most three are counted.
    pub(super) fn hits(&self) -> u32 {
        (self.state & HITS) / HIT
    }

    pub(super) fn count_hit(&mut self) {
        if self.state & HITS != HITS {
            self.state += HIT;
        }
    }

    fn is_live(&self) -> bool {
        self.state & LIVE != 0
    }
}

/// All entries of a process.
pub(super) struct Index {
    segments: Vec<Box<[Entry]>>,
    /// The first unused entry; each one holds the next in its `chunk`.
    free: u32,
    table: HashTable<u32>,
    seed: u64,
}

const NONE: u32 = u32::MAX;
const UNUSED: Entry =
    Entry { file: 0, version: 0, chunk: NONE, region: 0, home: 0, block: 0, slot: 0, state: 0 };

impl Index {
    pub(super) fn new() -> Index {
        // Seeded, so that a host cannot choose file ids that meet in the table.
        let seed = RandomState::new().hash_one(0);
        Index { segments: Vec::new(), free: NONE, table: HashTable::new(), seed }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The entry of a chunk, of whatever version.
    pub(super) fn find(&self, file: FileKey, chunk: u32) -> Option<EntryNo> {
        let hash = hash_of(self.seed, file.0, chunk);
        let number = self.table.find(hash, |&number| {
            let entry = at(&self.segments, number);
            entry.file == file.0 && entry.chunk == chunk
        });
        number.map(|&number| EntryNo(number))
    }

    pub(super) fn get(&self, number: EntryNo) -> &Entry {
        at(&self.segments, number.0)
    }

    pub(super) fn get_mut(&mut self, number: EntryNo) -> &mut Entry {
        at_mut(&mut self.segments, number.0)
    }

    /// Adds an entry in the place of the one its chunk had, which is given back.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        if let Some(number) = self.find(FileKey(entry.file), entry.chunk) {
            return Some(std::mem::replace(self.get_mut(number), entry));
        }
        let number = self.unused();
        *at_mut(&mut self.segments, number) = entry;
        let (segments, seed) = (&self.segments, self.seed);
        let rehash = |&number: &u32| {
            let entry = at(segments, number);
            hash_of(seed, entry.file, entry.chunk)
        };
        self.table.insert_unique(hash_of(seed, entry.file, entry.chunk), number, rehash);
        None
    }

    pub(super) fn remove(&mut self, number: EntryNo) -> Entry {
        let entry = *self.get(number);
        let hash = hash_of(self.seed, entry.file, entry.chunk);
        if let Ok(found) = self.table.find_entry(hash, |&other| other == number.0) {
            found.remove();
        }
        *self.get_mut(number) = Entry { chunk: self.free, ..UNUSED };
        self.free = number.0;
        entry
    }

    /// How many pieces [`Index::piece`] gives.
    pub(super) fn pieces(&self) -> usize {
        self.segments.len()
    }

    /// A piece of all entries, at most a thousand: for walks that must not hold the lock for long.
    pub(super) fn piece(&self, piece: usize) -> impl Iterator<Item = (EntryNo, &Entry)> {
        let entries = self.segments.get(piece).into_iter().flat_map(|segment| segment.iter());
        let number = move |i: usize| u32::try_from(piece * SEGMENT + i).unwrap_or(NONE);
        entries
            .enumerate()
            .filter(|(_, entry)| entry.is_live())
            .map(move |(i, entry)| (EntryNo(number(i)), entry))
    }

    /// Has the entries of a piece checked again.
    pub(super) fn doubt(&mut self, piece: usize) {
        if let Some(segment) = self.segments.get_mut(piece) {
            segment.iter_mut().for_each(Entry::set_unverified);
        }
    }

    /// Bytes of memory it occupies.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.segments.len() * SEGMENT * size_of::<Entry>()
            + self.segments.capacity() * size_of::<Box<[Entry]>>()
            + self.table.allocation_size()
    }

    fn unused(&mut self) -> u32 {
        if self.free == NONE {
            let base =
                u32::try_from(self.segments.len() * SEGMENT).expect("an index of fewer than 2^32 records");
            let nexts = (base + 1..).take(SEGMENT - 1).chain([NONE]);
            self.segments.push(nexts.map(|next| Entry { chunk: next, ..UNUSED }).collect());
            self.free = base;
        }
        let number = self.free;
        self.free = at(&self.segments, number).chunk;
        number
    }
}

fn at(segments: &[Box<[Entry]>], number: u32) -> &Entry {
    &segments[number as usize / SEGMENT][number as usize % SEGMENT]
}

fn at_mut(segments: &mut [Box<[Entry]>], number: u32) -> &mut Entry {
    &mut segments[number as usize / SEGMENT][number as usize % SEGMENT]
}

/// Both parts of the file's key are random already; this spreads the chunks and hides the place with the seed.
fn hash_of(seed: u64, file: u64, chunk: u32) -> u64 {
    let mixed = (file ^ seed).wrapping_mul((u64::from(chunk) << 1) + 0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
