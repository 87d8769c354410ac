//! What a cached block is named by.

use uring::SlotClass;
use wire::{Extent, FileId, Version};

/// One file on one host, whatever its contents: 64 bits of BLAKE3 over host key, share and file id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey(pub(crate) u64);

/// One file's contents at one version, on one host: 128 bits of BLAKE3 over all that tells them apart.
///
/// A hash instead of its parts keeps the key small and its comparison cheap; it is cryptographic because a hostile
/// host chooses file ids and versions, and must not be able to name the contents of another one. The first half is of
/// the file alone, so that the versions of one file are found together; the second is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentKey {
    file: FileKey,
    version: u64,
}

impl ContentKey {
    /// The key of `version` of file `id` in the share named `share` of the host with the public key `host_key`.
    pub fn new(host_key: &[u8; 32], share: &[u8], id: &FileId, version: &Version) -> ContentKey {
        let mut hasher = blake3::Hasher::new();
        hasher.update(host_key);
        hasher.update(&(share.len() as u64).to_le_bytes());
        hasher.update(share);
        for part in [id.fs, id.inode, id.birth] {
            hasher.update(&part.to_le_bytes());
        }
        let file = FileKey(first_half(&hasher));
        hasher.update(&version.size.0.to_le_bytes());
        for time in [version.mtime, version.ctime] {
            hasher.update(&time.secs.to_le_bytes());
            hasher.update(&time.nanos.to_le_bytes());
        }
        ContentKey { file, version: first_half(&hasher) }
    }

    /// The file whose contents they are.
    pub fn file(&self) -> FileKey {
        self.file
    }

    /// What tells them from the file's other contents.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// As it was kept on a disk.
    pub(crate) fn from_halves(file: FileKey, version: u64) -> ContentKey {
        ContentKey { file, version }
    }
}

/// 64 bits of what was hashed so far.
fn first_half(hasher: &blake3::Hasher) -> u64 {
    let mut half = [0; 8];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(half)
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
