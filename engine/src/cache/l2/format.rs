//! What is on the disk: index pages and the records in them. STORAGE.md gives every byte.

use wire::chunk::ContentHash;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::cache::key::{ContentKey, FileKey};

/// The unit of place in a region: what direct I/O asks for on every disk we use, and an index page.
pub(super) const BLOCK_BYTES: usize = 4096;
const BLOCK: u32 = 4096;
/// Bytes of a whole chunk.
pub(super) const CHUNK: usize = 128 << 10;
const _: () = assert!(CHUNK as u64 == wire::CHUNK_BYTES && BLOCK as usize == BLOCK_BYTES);
/// Records of one index page.
pub(super) const PAGE_RECORDS: u32 = 56;
/// Names the format; another number is another format.
const MAGIC: [u8; 8] = *b"whL2pg\0\x01";

/// One chunk on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Record {
    file: U64,
    version: U64,
    chunk: U64,
    region: U64,
    block: U32,
    len: U32,
    hash: [u8; 32],
}

const _: () = assert!(size_of::<Record>() == 72);

/// Where a record's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The region's number.
    pub(super) region: u64,
    /// The first block.
    pub(super) block: u32,
    /// Bytes, at most a chunk's.
    pub(super) len: u32,
}

impl Record {
    pub(super) fn new(content: ContentKey, chunk: u32, place: Place, hash: &ContentHash) -> Record {
        Record {
            file: content.file().0.into(),
            version: content.version().into(),
            chunk: u64::from(chunk).into(),
            region: place.region.into(),
            block: place.block.into(),
            len: place.len.into(),
            hash: hash.0,
        }
    }

    pub(super) fn content(&self) -> ContentKey {
        ContentKey::from_halves(FileKey(self.file.get()), self.version.get())
    }

    /// `None` for a number that no record of ours has.
    pub(super) fn chunk(&self) -> Option<u32> {
        u32::try_from(self.chunk.get()).ok()
    }

    pub(super) fn place(&self) -> Place {
        Place { region: self.region.get(), block: self.block.get(), len: self.len.get() }
    }

    /// The same without bytes, which no scan takes for a chunk.
    fn struck(self) -> Record {
        Record { len: 0.into(), hash: [0; 32], ..self }
    }

    pub(super) fn hash(&self) -> ContentHash {
        ContentHash(self.hash)
    }
}

/// Up to [`PAGE_RECORDS`] records of a region, which checks itself.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Page {
    magic: [u8; 8],
    region: U64,
    sequence: U64,
    number: U32,
    count: U32,
    checksum: [u8; 32],
    records: [Record; PAGE_RECORDS as usize],
}

const _: () = assert!(size_of::<Page>() == BLOCK_BYTES);

impl Page {
    /// Page `number` of a region, without records.
    pub(super) fn new(region: u64, number: u32) -> Page {
        let mut page = Page::read_from_bytes(&[0; BLOCK_BYTES]).expect("a block is as long as a page");
        page.magic = MAGIC;
        page.region = region.into();
        page.number = number.into();
        page
    }

    /// The page, if these bytes are page `number` of the region, whole and as they were written.
    pub(super) fn decode(bytes: &[u8], region: u64, number: u32) -> Option<&Page> {
        let page = Page::ref_from_bytes(bytes).ok()?;
        let is_it = page.magic == MAGIC
            && page.region.get() == region
            && page.number.get() == number
            && page.count.get() <= PAGE_RECORDS
            && page.sum() == page.checksum;
        is_it.then_some(page)
    }

    /// Adds a record; the page must not be full.
    pub(super) fn push(&mut self, record: Record) {
        let count = self.count.get();
        self.records[count as usize] = record;
        self.count = (count + 1).into();
    }

    /// Strikes a record out: its place stays taken.
    pub(super) fn strike(&mut self, number: usize) {
        if let Some(record) = self.records.get_mut(number) {
            *record = record.struck();
        }
    }

    /// Makes it what is written next: a new sequence number, and the checksum over all of it.
    pub(super) fn seal(&mut self) {
        self.sequence = (self.sequence.get() + 1).into();
        self.checksum = self.sum();
    }

    pub(super) fn is_full(&self) -> bool {
        self.count.get() == PAGE_RECORDS
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records[..self.count.get().min(PAGE_RECORDS) as usize]
    }

    fn sum(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.magic);
        for part in [self.region, self.sequence] {
            hasher.update(part.as_bytes());
        }
        for part in [self.number, self.count] {
            hasher.update(part.as_bytes());
        }
        hasher.update(self.records.as_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// Blocks that so many bytes occupy.
pub(super) fn blocks_of(len: u32) -> u32 {
    len.div_ceil(BLOCK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::{ByteLen, FileId, Timestamp, Version};

    use super::*;

    fn record(chunk: u32) -> Record {
        let id = FileId { fs: 1, inode: 2, birth: 3 };
        let time = Timestamp { secs: 5, nanos: 6 };
        let content =
            ContentKey::new(&[9; 32], b"share", &id, &Version { size: ByteLen(4), mtime: time, ctime: time });
        let place = Place { region: 7, block: chunk * 32, len: 131_072 };
        Record::new(content, chunk, place, &ContentHash::of(&chunk.to_le_bytes()))
    }

    #[test]
    fn a_page_comes_back_as_it_was_sealed() {
        let mut page = Page::new(7, 3);
        (0..PAGE_RECORDS).for_each(|i| page.push(record(i)));
        assert!(page.is_full());
        page.seal();
        let read = Page::decode(page.as_bytes(), 7, 3).unwrap();
        assert_eq!(read.records(), page.records());
        assert_eq!(read.records()[5].chunk(), Some(5));
        assert_eq!(read.records()[5].hash(), ContentHash::of(&5u32.to_le_bytes()));
        assert!(Page::decode(page.as_bytes(), 8, 3).is_none(), "of another region");
        assert!(Page::decode(page.as_bytes(), 7, 2).is_none(), "in another place");
    }

    proptest! {
        #[test]
        fn no_flipped_bit_and_no_garbage_makes_a_page(at in 0..BLOCK_BYTES * 8, noise: Vec<u8>) {
            let mut page = Page::new(1, 0);
            (0..20).for_each(|i| page.push(record(i)));
            page.seal();
            let mut bytes = page.as_bytes().to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(Page::decode(&bytes, 1, 0).is_none());
            prop_assert!(Page::decode(&noise, 1, 0).is_none());
        }
    }
}
