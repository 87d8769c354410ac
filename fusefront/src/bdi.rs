//! The kernel's own read-ahead on a mount.
//!
//! INIT allows at most 128 KiB, which would cut a sequential read into requests of that size; the backing device's
//! setting takes more, but only from root.

use std::{fs, io, path::PathBuf};

/// What the kernel may read ahead, in KiB: one full request.
pub const READ_AHEAD_KB: u32 = 1024;

/// Raises the read-ahead of the file system on `device` (`MAJOR:MINOR`).
///
/// # Errors
/// When the setting cannot be written: without root, or in a container with a read-only `/sys`.
pub fn raise_read_ahead(device: &str) -> io::Result<()> {
    fs::write(setting(device), READ_AHEAD_KB.to_string())
}

/// The read-ahead of the file system on `device`, in KiB; `None` when it cannot be read.
pub fn read_ahead_kb(device: &str) -> Option<u32> {
    fs::read_to_string(setting(device)).ok()?.trim().parse().ok()
}

fn setting(device: &str) -> PathBuf {
    PathBuf::from(format!("/sys/class/bdi/{device}/read_ahead_kb"))
}
