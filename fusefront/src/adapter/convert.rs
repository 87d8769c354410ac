//! The host's attributes in fuser's form.

use std::{
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use fuser::{FileAttr, FileType, FopenFlags, INodeNo, OpenFlags};
use nix::fcntl::OFlag;
use wire::{Attr, FileKind, Timestamp};

use crate::vfs::folders::KernelListing;

/// What fuser calls a kind of file.
pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Sizes of a good read that are believed: programs take buffers of it, and a host may say 2 GiB.
const BLOCK_BYTES: RangeInclusive<u32> = 512..=1 << 20;

/// Attributes under the inode number that `stat` shows.
pub(super) fn file_attr(inode: u64, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(inode),
        size: attr.size.0,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        // Of macOS alone, as `flags` is.
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: attr.perm,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: attr.block_bytes.clamp(*BLOCK_BYTES.start(), *BLOCK_BYTES.end()),
        flags: 0,
    }
}

/// What a listing tells of a file by its kind alone; the kernel is told to ask before it uses any of it.
pub(super) fn bare_attr(inode: u64, kind: FileKind) -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(inode),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: file_type(kind),
        perm: 0,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// The flags of a directory's open.
pub(super) fn dir_flags(listing: KernelListing) -> FopenFlags {
    match listing {
        KernelListing::None => FopenFlags::empty(),
        KernelListing::Filled => FopenFlags::FOPEN_CACHE_DIR,
        KernelListing::Kept => FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE,
    }
}

/// Whether a file is opened past the page cache (`O_DIRECT`).
pub(super) fn is_direct(flags: OpenFlags) -> bool {
    OFlag::from_bits_truncate(flags.0).contains(OFlag::O_DIRECT)
}

/// A time of the host; one that the standard library cannot hold becomes the epoch.
fn system_time(time: Timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(time.nanos.into());
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(secs)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(secs)
    };
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_keep_their_nanoseconds() {
        let time = system_time(Timestamp { secs: -2, nanos: 250_000_000 });
        let before = SystemTime::UNIX_EPOCH.duration_since(time).unwrap();
        assert_eq!(before, Duration::from_millis(1750));
    }

    #[test]
    fn direct_opens_are_told_apart() {
        assert!(is_direct(OpenFlags(OFlag::O_DIRECT.bits() | OFlag::O_CLOEXEC.bits())));
        assert!(!is_direct(OpenFlags(OFlag::O_CLOEXEC.bits())));
    }
}
