//! From a path to a file, never outside the directory it starts at.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, fcntl_getfl, fcntl_setfl, openat2},
    io::Errno,
};

/// How often a resolution that the kernel found raced by a rename is tried again.
const RETRIES_MAX: u32 = 4;

/// How far a resolution may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Names in the kernel's memory, on the file system it starts on: never waits. `EAGAIN` or `EXDEV` when that is
    /// not enough, and the whole way is to be tried where waiting is allowed.
    Cached,
    /// The whole way, mount points included. May wait for a disk.
    Whole,
    /// The same on the mount it starts on alone: `EXDEV` where another begins.
    OneMount,
}

/// Opens `path` (names joined by `/`, empty for `base` itself) as a place, without reading it.
///
/// No symlink is followed: in the middle it is `ELOOP`, at the end it is the thing opened.
pub(crate) fn open(base: BorrowedFd<'_>, path: &[u8], reach: Reach) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let resolve = match reach {
        Reach::Cached => inside | ResolveFlags::CACHED | ResolveFlags::NO_XDEV,
        Reach::Whole => inside,
        Reach::OneMount => inside | ResolveFlags::NO_XDEV,
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut tries = 0;
    loop {
        match openat2(base, path, flags, Mode::empty(), resolve) {
            Err(Errno::INTR) => {}
            // `EXDEV`: a folder on the way left the base meanwhile, or all of it lies outside, which stays so.
            Err(Errno::AGAIN | Errno::XDEV) if reach == Reach::Whole && tries < RETRIES_MAX => tries += 1,
            result => return result,
        }
    }
}

/// Opens the regular file behind `place` for reading, leaving its access time alone where that is allowed.
///
/// The caller has seen that it is a regular file. `EAGAIN` when another program holds a lease on it.
pub(crate) fn open_to_read(place: BorrowedFd<'_>) -> Result<File, Errno> {
    // O_NONBLOCK: a lease of another program must not hold this thread for its break time.
    let file = reopen(place, OFlags::RDONLY | OFlags::NONBLOCK)?;
    // The flag goes again: io_uring fails reads on such a file with EAGAIN where the file system knows no NOWAIT.
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags & !OFlags::NONBLOCK)?;
    Ok(file.into())
}

/// Opens the directory behind `place` for reading its names.
pub(crate) fn open_to_list(place: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    reopen(place, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens the very file behind `place`: through its link in /proc, which no rename can turn to another file.
fn reopen(place: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let link = link_of(place);
    let flags = flags | OFlags::CLOEXEC;
    // Only the file's owner and root may leave the access time alone.
    match rustix::fs::open(&link, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::open(&link, flags, Mode::empty()),
        result => result,
    }
}

/// The path under which this process reaches the file behind `place`, whatever its names.
pub(crate) fn link_of(place: impl AsFd) -> String {
    format!("/proc/self/fd/{}", place.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::attr::Look;

    fn tree() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/file"), b"bytes").unwrap();
        symlink("sub", dir.path().join("link")).unwrap();
        symlink("/etc", dir.path().join("out")).unwrap();
        let fd = File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn a_path_reaches_its_file() {
        let (_dir, base) = tree();
        let place = open(base.as_fd(), b"sub/file", Reach::Whole).unwrap();
        let file = open_to_read(place.as_fd()).unwrap();
        assert_eq!(std::io::read_to_string(file).unwrap(), "bytes");
        let root = open(base.as_fd(), b"", Reach::Whole).unwrap();
        let (root, base) = (Look::at(root.as_fd()).unwrap(), Look::at(base.as_fd()).unwrap());
        assert_eq!(root.inode(), base.inode());
    }

    #[test]
    fn a_symlink_in_the_middle_is_refused_and_at_the_end_is_itself() {
        let (_dir, base) = tree();
        assert_eq!(open(base.as_fd(), b"link/file", Reach::Whole).unwrap_err(), Errno::LOOP);
        assert_eq!(open(base.as_fd(), b"out/passwd", Reach::Whole).unwrap_err(), Errno::LOOP);
        let link = open(base.as_fd(), b"out", Reach::Whole).unwrap();
        assert_eq!(Look::at(link.as_fd()).unwrap().kind(), Some(wire::FileKind::Symlink));
    }

    #[test]
    fn nothing_above_the_base_is_reached() {
        let (_dir, base) = tree();
        // Neither can come from a `SharePath`; the kernel refuses them all the same.
        assert_eq!(open(base.as_fd(), b"..", Reach::Whole).unwrap_err(), Errno::XDEV);
        assert_eq!(open(base.as_fd(), b"/etc", Reach::Whole).unwrap_err(), Errno::XDEV);
    }

    #[test]
    fn names_in_memory_are_reached_without_waiting() {
        let (_dir, base) = tree();
        open(base.as_fd(), b"sub/file", Reach::Whole).unwrap();
        open(base.as_fd(), b"sub/file", Reach::Cached).unwrap();
        let never_seen = open(base.as_fd(), b"sub/absent", Reach::Cached).unwrap_err();
        assert!(matches!(never_seen, Errno::AGAIN | Errno::NOENT), "{never_seen}");
    }
}
