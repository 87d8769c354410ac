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
