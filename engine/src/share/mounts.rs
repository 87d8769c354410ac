//! Whether a folder touches a Wormhole mount of this machine.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// The mounts of this process, a line each.
pub(crate) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// What the type of a Wormhole mount starts with in [`MOUNTINFO`].
const TYPE_PREFIX: &[u8] = b"fuse.wormhole";

/// The Wormhole mount that `root` lies in or holds, if there is one.
pub(super) fn wormhole_mount_of(root: &Path) -> io::Result<Option<PathBuf>> {
    Ok(find(&std::fs::read(MOUNTINFO)?, root))
}

fn find(mountinfo: &[u8], root: &Path) -> Option<PathBuf> {
    let mounts = mountinfo.split(|&b| b == b'\n').filter_map(parse);
    // The last of the longest ancestors is the mount the folder itself lies on.
    let mut own: Option<(PathBuf, bool)> = None;
    for (mountpoint, ours) in mounts {
        if ours && mountpoint.starts_with(root) {
            return Some(mountpoint);
        }
        let longest = own.as_ref().map_or(0, |(path, _)| path.as_os_str().len());
        if root.starts_with(&mountpoint) && mountpoint.as_os_str().len() >= longest {
            own = Some((mountpoint, ours));
        }
    }
    own.filter(|(_, ours)| *ours).map(|(mountpoint, _)| mountpoint)
}

/// Where the mount of a line is; `None` for a line of another form.
pub(crate) fn mountpoint_of(line: &[u8]) -> Option<PathBuf> {
    parse(line).map(|(mountpoint, _)| mountpoint)
}

/// The mountpoint of a line and whether it is a mount of ours; `None` for a line of another form.
///
/// `id parent major:minor root mountpoint options [fields] - type source options`, proc_pid_mountinfo(5).
fn parse(line: &[u8]) -> Option<(PathBuf, bool)> {
    let mountpoint = line.split(|&b| b == b' ').nth(4)?;
    let separator = line.windows(3).position(|w| w == b" - ")?;
    let kind = line[separator + 3..].split(|&b| b == b' ').next()?;
    Some((unescape(mountpoint), kind.starts_with(TYPE_PREFIX)))
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.filter(|_| first == b'\\').and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw shared:1 - ext4 /dev/vda rw\n\
        40 22 0:40 / /mnt/far\\040away rw,nosuid - fuse.wormhole host:share rw\n\
        41 22 0:41 / /mnt/other rw - fuse.sshfs x rw\n\
        42 40 0:42 / /mnt/far\\040away/tmp rw - tmpfs tmpfs rw\n";

    #[test]
    fn a_folder_above_in_and_beside_a_mount() {
        let mount = Some(PathBuf::from("/mnt/far away"));
        assert_eq!(find(TABLE, Path::new("/")), mount);
        assert_eq!(find(TABLE, Path::new("/mnt")), mount);
        assert_eq!(find(TABLE, Path::new("/mnt/far away")), mount);
        assert_eq!(find(TABLE, Path::new("/mnt/far away/deep/down")), mount);
        assert_eq!(find(TABLE, Path::new("/mnt/far away/tmp/x")), None);
        assert_eq!(find(TABLE, Path::new("/mnt/other")), None);
        assert_eq!(find(TABLE, Path::new("/home")), None);
    }

    #[test]
    fn this_machines_table_is_read() {
        assert!(wormhole_mount_of(Path::new("/proc")).unwrap().is_none());
        let own = std::fs::read("/proc/self/mountinfo").unwrap();
        assert!(own.split(|&b| b == b'\n').filter_map(parse).any(|(path, _)| path == Path::new("/")));
    }
}
