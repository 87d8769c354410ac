//! Chunks: the aligned pieces of a file that are hashed, and their arithmetic.

use crate::{ByteLen, ByteOffset, Extent};

/// Bytes of a chunk: the unit of hashing and of the disk cache's records. The last one of a file may be shorter.
pub const CHUNK_BYTES: u64 = 128 * 1024;

/// The place of a chunk in its file: chunk `i` starts at byte `i * CHUNK_BYTES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkIndex(pub u64);

impl ChunkIndex {
    /// The chunk that holds the byte at `offset`.
    pub fn of(offset: ByteOffset) -> ChunkIndex {
        ChunkIndex(offset.0 / CHUNK_BYTES)
    }

    /// The bytes of this chunk in a file of `size` bytes; `None` past its end.
    pub fn extent(self, size: ByteLen) -> Option<Extent> {
        let start = self.0.checked_mul(CHUNK_BYTES)?;
        let left = size.0.checked_sub(start).filter(|&left| left > 0)?;
        Some(Extent { start: ByteOffset(start), len: ByteLen(left.min(CHUNK_BYTES)) })
    }
}

/// The BLAKE3 hash of some bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> ContentHash {
        ContentHash(*blake3::hash(bytes).as_bytes())
    }
}
