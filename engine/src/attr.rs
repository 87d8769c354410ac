//! What `statx(2)` tells of a file, and its form on the wire.

#[cfg(feature = "testing")]
pub(crate) mod times;

use std::{
    os::fd::BorrowedFd,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{AtFlags, Statx, StatxFlags, StatxTimestamp, statx},
    io::Errno,
};
use wire::{Attr, ByteLen, FileId, FileKind, Timestamp, Version};

/// The longest that one `write(2)` is taken to last: 2 GiB, its most, to a disk of 35 MB/s.
const WRITE_MAX: Duration = Duration::from_secs(60);

/// What is to be known of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// The `fs` of its files' ids.
    pub(crate) id: u64,
    /// How long after a change the next one shows in the times.
    pub(crate) settles_after: Duration,
    /// Whether a look at a file in memory never waits for a device or a network.
    pub(crate) quick: bool,
    /// Whether the kernel tells of every change there: all go through it, and through files that inotify(7) knows.
    pub(crate) tells: bool,
}

/// One look at a file: its attributes, and when they were taken.
#[derive(Debug)]
pub(crate) struct Look {
    statx: Statx,
    /// Taken before the call, so that a change during it counts as recent.
    now: Timestamp,
}

impl Look {
    /// Looks at the file behind `fd`, whatever it is; a symlink is not followed.
    pub(crate) fn at(fd: BorrowedFd<'_>) -> Result<Look, Errno> {
        Self::in_dir(fd, c"", AtFlags::EMPTY_PATH)
    }

    /// Looks at the entry `name` of a directory; a symlink is not followed, an automount is not triggered.
    pub(crate) fn of_entry(dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<Look, Errno> {
        Self::in_dir(dir, name, AtFlags::empty())
    }

    fn in_dir(dir: BorrowedFd<'_>, name: &std::ffi::CStr, flags: AtFlags) -> Result<Look, Errno> {
        let now = wall_clock();
        let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let statx = statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        #[cfg(feature = "testing")]
        let (statx, now) = times::retime(statx, now);
        Ok(Look { statx, now })
    }

    /// Whether the file's contents may have changed so lately that a write may still be under way: the times move when
    /// a write begins, before its bytes arrive.
    pub(crate) fn may_be_written(&self) -> bool {
        !is_settled(&self.version(), self.now, WRITE_MAX)
    }

    /// The device that holds the file; good for comparing within the life of this process only.
    pub(crate) fn device(&self) -> u64 {
        (u64::from(self.statx.stx_dev_major) << 32) | u64::from(self.statx.stx_dev_minor)
    }

    /// The inode number.
    pub(crate) fn inode(&self) -> u64 {
        self.statx.stx_ino
    }

    /// The birth time in nanoseconds, truncated to 64 bits; zero when the file system keeps none.
    pub(crate) fn birth(&self) -> u64 {
        if self.statx.stx_mask & StatxFlags::BTIME.bits() == 0 {
            return 0;
        }
        let time = self.statx.stx_btime;
        // Truncation is meant: the number only has to differ between two files of one inode number.
        let nanos = time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.into());
        nanos.max(1)
    }

    /// Hard links.
    pub(crate) fn links(&self) -> u32 {
        self.statx.stx_nlink
    }

    /// What it is; `None` for mode bits that no kernel sets.
    pub(crate) fn kind(&self) -> Option<FileKind> {
        FileKind::from_mode(self.statx.stx_mode.into())
    }

    /// Which file it is.
    pub(crate) fn id(&self, fs: FileSystem) -> FileId {
        FileId { fs: fs.id, inode: self.inode(), birth: self.birth() }
    }

    /// The version of its contents.
    pub(crate) fn version(&self) -> Version {
        Version {
            size: ByteLen(self.statx.stx_size),
            mtime: timestamp(self.statx.stx_mtime),
            ctime: timestamp(self.statx.stx_ctime),
        }
    }

    /// The attributes as the wire has them.
    ///
    /// # Errors
    /// `EIO` for mode bits that no kernel sets: a broken file system.
    pub(crate) fn attr(&self, fs: FileSystem) -> Result<Attr, Errno> {
        let version = self.version();
        let statx = &self.statx;
        Ok(Attr {
            id: self.id(fs),
            kind: self.kind().ok_or(Errno::IO)?,
            perm: statx.stx_mode & 0o7777,
            links: statx.stx_nlink,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            rdev: encode_device(statx.stx_rdev_major, statx.stx_rdev_minor),
            block_bytes: statx.stx_blksize,
            size: version.size,
            blocks: statx.stx_blocks,
            atime: timestamp(statx.stx_atime),
            mtime: version.mtime,
            ctime: version.ctime,
            settled: is_settled(&version, self.now, fs.settles_after),
        })
    }
}

/// Whether a change made after `now` would show in the times of `version`.
///
/// The change time decides, since only the clock sets it; a modification time counts while it is not in the future,
/// where a program put it.
fn is_settled(version: &Version, now: Timestamp, grace: Duration) -> bool {
    let nanos = |time: Timestamp| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let now = nanos(now);
    let edge = now - i128::try_from(grace.as_nanos()).unwrap_or(i128::MAX);
    let (mtime, ctime) = (nanos(version.mtime), nanos(version.ctime));
    ctime <= edge && (mtime <= edge || mtime > now)
}

fn timestamp(time: StatxTimestamp) -> Timestamp {
    // A file system that reports a whole second or more here breaks statx(2); the wire refuses such a number.
    Timestamp { secs: time.tv_sec, nanos: time.tv_nsec.min(999_999_999) }
}

/// The kernel's 32-bit form of a device number (`new_encode_dev`, linux/kdev_t.h), which FUSE uses.
fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The time of day: what files' times are compared with.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn at(secs: i64, nanos: u32) -> Timestamp {
        Timestamp { secs, nanos }
    }

    #[test]
    fn a_file_settles_two_ticks_after_its_last_change() {
        let grace = Duration::from_millis(20);
        let version = Version { size: ByteLen(1), mtime: at(100, 0), ctime: at(100, 0) };
        assert!(!is_settled(&version, at(100, 19_999_999), grace));
        assert!(is_settled(&version, at(100, 20_000_000), grace));
        // The clock went back: nothing is known.
        assert!(!is_settled(&version, at(50, 0), grace));
    }

    #[test]
    fn a_modification_time_in_the_future_does_not_keep_a_file_unsettled() {
        let version = Version { size: ByteLen(1), mtime: at(9_000, 0), ctime: at(100, 0) };
        assert!(is_settled(&version, at(200, 0), Duration::from_secs(2)));
    }

    #[test]
    fn device_numbers_take_the_kernels_form() {
        assert_eq!(encode_device(8, 1), 0x0801);
        assert_eq!(encode_device(0x103, 0x2_34), (0x34) | (0x103 << 8) | (0x200 << 12));
    }

    #[test]
    fn a_look_agrees_with_the_standard_library() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::tempfile().unwrap();
        file.set_len(12_345).unwrap();
        let expected = file.metadata().unwrap();
        let fs = FileSystem { id: 7, settles_after: Duration::from_secs(2), quick: true, tells: true };
        let attr = Look::at(file.as_fd()).unwrap().attr(fs).unwrap();
        assert_eq!(attr.id.fs, 7);
        assert_eq!(attr.id.inode, expected.ino());
        assert_eq!(attr.size.0, 12_345);
        assert_eq!(attr.kind, FileKind::Regular);
        assert_eq!((attr.mtime.secs, i64::from(attr.mtime.nanos)), (expected.mtime(), expected.mtime_nsec()));
        assert_eq!(u32::from(attr.perm), expected.mode() & 0o7777);
        assert_eq!((attr.uid, attr.gid), (expected.uid(), expected.gid()));
        assert!(!attr.settled, "it was made a moment ago");
    }
}
