//! Extents: byte ranges of one file.

use std::fmt;

use crate::{ByteLen, ByteOffset};

/// A byte range of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    /// Its first byte.
    pub start: ByteOffset,
    /// How many bytes; may be zero.
    pub len: ByteLen,
}

impl Extent {
    /// The extent of `len` bytes from `start`.
    pub fn new(start: u64, len: u64) -> Extent {
        Extent { start: ByteOffset(start), len: ByteLen(len) }
    }

    /// The byte after the last one; `u64::MAX` when that cannot be told.
    pub fn end(&self) -> ByteOffset {
        ByteOffset(self.start.0.saturating_add(self.len.0))
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len.0 == 0
    }

    /// The bytes in both; `None` when there is none.
    pub fn intersect(&self, other: &Extent) -> Option<Extent> {
        let start = self.start.max(other.start);
        let end = self.end().min(other.end());
        (start < end).then(|| Extent { start, len: end.saturating_since(start) })
    }

    /// Whether every byte of `other` is in this one.
    pub fn contains(&self, other: &Extent) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// The part that lies inside a file of `size` bytes; empty past its end.
    pub fn clip(&self, size: ByteLen) -> Extent {
        let end = self.end().0.min(size.0);
        Extent { start: self.start, len: ByteLen(end.saturating_sub(self.start.0)) }
    }

    /// The aligned blocks of `block_bytes` that touch this extent, in order, by index.
    ///
    /// # Panics
    /// When `block_bytes` is zero.
    pub fn blocks(&self, block_bytes: u64) -> std::ops::Range<u64> {
        assert!(block_bytes > 0, "a block holds at least one byte");
        if self.is_empty() {
            return 0..0;
        }
        self.start.0 / block_bytes..(self.end().0 - 1) / block_bytes + 1
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}..{}", self.start.0, self.end().0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{CHUNK_BYTES, ChunkIndex};

    proptest! {
        #[test]
        fn intersect_is_common_and_symmetric(a: u64, b: u64, c: u64, d: u64) {
            let (one, two) = (Extent::new(a, b), Extent::new(c, d));
            prop_assert_eq!(one.intersect(&two), two.intersect(&one));
            if let Some(both) = one.intersect(&two) {
                prop_assert!(!both.is_empty());
                prop_assert!(one.contains(&both) && two.contains(&both));
            }
        }

        #[test]
        fn clip_stays_inside_the_file(start: u64, len: u64, size: u64) {
            let clipped = Extent::new(start, len).clip(ByteLen(size));
            prop_assert!(clipped.is_empty() || clipped.end().0 <= size);
            prop_assert!(clipped.len.0 <= len);
        }

        #[test]
        fn blocks_cover_the_extent_and_no_more(start in 0..1_u64 << 62, len in 1..1_u64 << 40, block in 1..1_u64 << 21) {
            let extent = Extent::new(start, len);
            let blocks = extent.blocks(block);
            prop_assert!(blocks.start * block <= start && start < (blocks.start + 1) * block);
            prop_assert!((blocks.end - 1) * block < extent.end().0 && extent.end().0 <= blocks.end * block);
        }

        #[test]
        fn a_chunk_holds_the_bytes_it_is_the_chunk_of(offset: u64, size: u64) {
            match ChunkIndex::of(ByteOffset(offset)).extent(ByteLen(size)) {
                Some(chunk) => {
                    prop_assert_eq!(chunk.start.0 % CHUNK_BYTES, 0);
                    prop_assert!(chunk.end().0 <= size && !chunk.is_empty() && chunk.len.0 <= CHUNK_BYTES);
                    prop_assert_eq!(offset < size, chunk.contains(&Extent::new(offset, 1)) && offset != u64::MAX);
                }
                None => prop_assert!(offset / CHUNK_BYTES * CHUNK_BYTES >= size),
            }
            prop_assert!(ChunkIndex(u64::MAX).extent(ByteLen(size)).is_none());
        }
    }
}
