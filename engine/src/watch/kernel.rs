//! The kernel's side: one inotify instance, inotify(7).

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
    io::Errno,
};

use super::tree::WatchNo;
use crate::share::resolve;

/// What the kernel tells of a directory on the way to a leased one: whatever makes its names lead elsewhere.
const WAY: WatchFlags = WatchFlags::MOVED_FROM
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);
/// Of a leased directory: every change of its entries as well. `CLOSE_WRITE` comes for writes through a memory map, of which
/// nothing else does.
const LEASED: WatchFlags =
    WAY.union(WatchFlags::MODIFY).union(WatchFlags::ATTRIB).union(WatchFlags::CLOSE_WRITE);
/// Directories alone; a watch is never made to tell less, which another tree may rely on.
const HOW: WatchFlags = WatchFlags::ONLYDIR.union(WatchFlags::MASK_ADD);

/// Bytes of events taken from the kernel at once; one is at most 272.
const READ_BYTES: usize = 64 << 10;

/// How much the kernel is to tell of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Where its names lead.
    Way,
    /// Every change of its entries.
    Leased,
}

/// An inotify instance; closed, all its watches are gone.
#[derive(Debug)]
pub(super) struct Inotify(OwnedFd);

impl Inotify {
    pub(super) fn new() -> Result<Inotify, Errno> {
        Ok(Inotify(inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?))
    }

    /// Watches the very directory behind `place`, whatever its names are meanwhile. It does not wait: the way is in /proc.
    pub(super) fn add(&self, place: BorrowedFd<'_>, depth: Depth) -> Result<WatchNo, Errno> {
        let mask = match depth {
            Depth::Way => WAY,
            Depth::Leased => LEASED,
        };
        inotify::add_watch(&self.0, resolve::link_of(place), mask | HOW).map(WatchNo)
    }

    /// Ends a watch; one that the kernel ended by itself is no error.
    pub(super) fn remove(&self, watch: WatchNo) {
        // `EINVAL`: the directory is gone, and the watch with it.
        let _ = inotify::remove_watch(&self.0, watch.0);
    }

    /// Reads what has happened, at most `max` events: each goes to `each`; whether that was all for now.
    pub(super) fn read(&self, max: usize, mut each: impl FnMut(Event<'_>)) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        let mut reader = Reader::new(self.0.as_fd(), &mut buffer);
        let mut count = 0;
        // What was read is given out to its end: nobody else has it.
        while count < max || !reader.is_buffer_empty() {
            match reader.next() {
                Ok(event) => each(Event {
                    watch: WatchNo(event.wd()),
                    what: event.events(),
                    name: event.file_name().map(std::ffi::CStr::to_bytes),
                }),
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            count += 1;
        }
        Ok(false)
    }
}

impl AsRawFd for Inotify {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What happened in or to a watched directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'a> {
    pub(super) watch: WatchNo,
    pub(super) what: ReadFlags,
    /// Of which entry; `None` for the directory itself.
    pub(super) name: Option<&'a [u8]>,
}

/// Watches that this process' user may have, of all processes; `None` where the kernel does not say.
pub(super) fn user_watches_max() -> Option<usize> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse().ok()
}
