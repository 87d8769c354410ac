//! What a cached block is named by.

use uring::SlotClass;
use wire::{Extent, FileId, Version};

/// One file's contents at one version, on one host: 128 bits of BLAKE3 over all that tells them apart.
///
/// A hash instead of its parts keeps the key small and its comparison cheap; it is cryptographic because a hostile
/// host chooses file ids and versions, and must not be able to make two files meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentKey([u8; 16]);

impl ContentKey {
    /// The key of `version` of file `id` in the share named `share` of the host with the public key `host_key`.
    pub fn new(host_key: &[u8; 32], share: &[u8], id: &FileId, version: &Version) -> ContentKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(host_key);
        hasher.update(&(share.len() as u64).to_le_bytes());
        hasher.update(share);
        for part in [id.fs, id.inode, id.birth, version.size.0] {
            hasher.update(&part.to_le_bytes());
        }
        for time in [version.mtime, version.ctime] {
            hasher.update(&time.secs.to_le_bytes());
            hasher.update(&time.nanos.to_le_bytes());
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        ContentKey(key)
    }
}

/// An aligned block of some contents: block `index` of its class starts at byte `index * class.bytes()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockKey {
    /// Whose bytes.
    pub content: ContentKey,
    /// How large a block; the last one of a file holds less.
    pub class: SlotClass,
    /// Which one.
    pub index: u64,
}

impl BlockKey {
    /// The block of `class` that holds the byte at `offset`.
    pub fn at(content: ContentKey, class: SlotClass, offset: u64) -> BlockKey {
        BlockKey { content, class, index: offset / class.bytes() as u64 }
    }

    /// Its bytes in a file of `size` bytes; empty past the end.
    pub fn extent(&self, size: wire::ByteLen) -> Extent {
        let bytes = self.class.bytes() as u64;
        Extent::new(self.index.saturating_mul(bytes), bytes).clip(size)
    }
}
