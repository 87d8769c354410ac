//! What is mounted, asked of the kernel's table: never of the mount itself, which may not answer.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether `path` itself is a mount point. `path` is canonical.
pub(super) fn is_mounted(path: &Path) -> bool {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    mountpoints(&table).any(|mountpoint| mountpoint == path)
}

/// Whether anything is mounted at `path` or below. `path` is canonical.
pub(super) fn any_below(path: &Path) -> bool {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    mountpoints(&table).any(|mountpoint| mountpoint.starts_with(path))
}

/// The last resort: takes the mount out of the tree whether or not anyone uses or answers it.
pub(super) fn detach(path: &Path) {
    for (program, flags) in [("umount", "-l"), ("fusermount3", "-uz")] {
        if !is_mounted(path) {
            return;
        }
        // Their outcome is read from the mount table; a missing program is one that did not help.
        Command::new(program).arg(flags).arg(path).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

/// The fifth field of each line of mountinfo (proc_pid_mountinfo(5)), its octal escapes undone.
fn mountpoints(table: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    table.split(|&byte| byte == b'\n').filter_map(|line| {
        let field = line.split(|&byte| byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    })
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::ffi::OsStr::from_bytes(digits).to_str()?, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        40 27 0:44 / /tmp/a\\040b\\134c rw,nosuid - fuse.wormhole wormhole ro\n";

    #[test]
    fn escaped_mountpoints_are_found() {
        let found: Vec<PathBuf> = mountpoints(TABLE).collect();
        assert_eq!(found, [PathBuf::from("/proc"), PathBuf::from("/tmp/a b\\c")]);
    }

    #[test]
    fn the_kernels_table_is_read() {
        assert!(is_mounted(Path::new("/proc")));
        assert!(any_below(Path::new("/")));
        assert!(!is_mounted(Path::new("/proc/self")));
    }
}
