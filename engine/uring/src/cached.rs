//! Reading what the page cache holds, on the caller's thread, without waiting for a device.

use std::fs::File;
use std::io::{self, IoSliceMut};

use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// What the page cache had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CachedRead {
    /// So many bytes, from the offset asked for. **Fewer than asked is not the end of the file**: the rest is not in
    /// memory, or is past the end, and only a read through the ring tells which. 0 is the end, or a read of nothing.
    Filled(usize),
    /// Nothing without waiting, or the file system cannot say: read through the ring.
    Miss,
}

/// Fills `buf` from the page cache (`preadv2` with `RWF_NOWAIT`, see `preadv2(2)`); never waits for a device.
///
/// A hop to the ring and back costs more than the copy of 128 KiB, so a warm read is better done here.
///
/// # Errors
/// What the kernel says of the file, other than "it would block" and "not supported", which are [`CachedRead::Miss`].
pub fn read_cached(file: &File, buf: &mut [u8], offset: u64) -> io::Result<CachedRead> {
    // The kernel reads offset -1 as "the current position", which nobody means here.
    if i64::try_from(offset).is_err() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    match preadv2(file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
        Ok(n) => Ok(CachedRead::Filled(n)),
        // INTR: RWF_NOWAIT does not sleep, but a signal pending on entry may say so.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(CachedRead::Miss),
        Err(errno) => Err(errno.into()),
    }
}
