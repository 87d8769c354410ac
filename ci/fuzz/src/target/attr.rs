//! Attributes that say nothing in particular.

use wire::{Attr, ByteLen, FileId, FileKind, Timestamp};

/// An empty folder.
pub(super) fn directory() -> Attr {
    let zero = Timestamp::default();
    Attr {
        id: FileId { fs: 1, inode: 2, birth: 3 },
        kind: FileKind::Directory,
        perm: 0o755,
        links: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(0),
        blocks: 0,
        atime: zero,
        mtime: zero,
        ctime: zero,
        settled: true,
    }
}
