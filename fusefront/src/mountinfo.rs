//! What is mounted where, as the kernel tells it (`/proc/self/mountinfo`, proc_pid_mountinfo(5)).

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// The file system type of our mounts.
pub const FSTYPE: &str = "fuse.wormhole";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// Its number, which tells two mounts on one path apart; the kernel gives it to another once this one is gone.
    pub id: u64,
    /// The file system's device, `MAJOR:MINOR`.
    pub device: String,
    /// Where.
    pub mountpoint: PathBuf,
    /// What kind.
    pub fstype: String,
}

impl MountInfo {
    /// Whether `wormhole` made it.
    pub fn is_ours(&self) -> bool {
        self.fstype == FSTYPE
    }
}

/// All mounts this process sees, in the order they were made.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn all() -> io::Result<Vec<MountInfo>> {
    Ok(fs::read("/proc/self/mountinfo")?.split(|&b| b == b'\n').filter_map(parse).collect())
}

/// The mount at `path`; the topmost where there are several. `path` is compared as text, and never looked at: the
/// mount may be dead.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn at(path: &Path) -> io::Result<Option<MountInfo>> {
    Ok(all()?.into_iter().rev().find(|mount| mount.mountpoint == path))
}

/// The absolute form of `path` without a look at its last component, which may be a dead mount.
///
/// # Errors
/// When the folder it is in cannot be resolved.
pub fn resolve_parent(path: &Path) -> io::Result<PathBuf> {
    // `/mnt/share/.` and `..` have no last component of their own: those are resolved whole.
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !path.as_os_str().as_bytes().ends_with(b"/.") => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(parent.canonicalize()?.join(name))
        }
        _ => path.canonicalize(),
    }
}

fn parse(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|&b| b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8(fields.nth(1)?.into()).ok()?;
    let mountpoint = unescape(fields.nth(1)?);
    // Optional fields follow, ended by a lone dash.
    let mut fields = fields.skip_while(|&field| field != b"-");
    let fstype = String::from_utf8(fields.nth(1)?.into()).ok()?;
    Some(MountInfo { id, device, mountpoint, fstype })
}

/// Blanks, newlines and backslashes stand as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'\\').then(|| after.get(..3)).flatten().and_then(octal);
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_and_without_optional_fields() {
        let line =
            b"512 27 0:44 / /mnt/a\\040b\\134c rw,nosuid shared:7 master:2 - fuse.wormhole wormhole ro";
        let mount = parse(line).unwrap();
        assert_eq!(mount.id, 512);
        assert_eq!(mount.device, "0:44");
        assert_eq!(mount.mountpoint, Path::new("/mnt/a b\\c"));
        assert!(mount.is_ours());
        let mount = parse(b"27 1 8:1 / / rw - ext4 /dev/sda1 rw").unwrap();
        assert_eq!((mount.mountpoint.as_path(), mount.fstype.as_str()), (Path::new("/"), "ext4"));
        assert!(!mount.is_ours());
    }

    #[test]
    fn odd_lines_are_passed_over() {
        for line in [&b""[..], b"x", b"1 2 0:1 /", b"1 2 0:1 / /mnt rw no dash", b"1 2 0:1 / /mnt rw -"] {
            assert_eq!(parse(line), None);
        }
        assert_eq!(unescape(b"a\\9z\\"), Path::new("a\\9z\\"));
    }

    #[test]
    fn the_root_is_mounted() {
        assert_eq!(at(Path::new("/")).unwrap().unwrap().mountpoint, Path::new("/"));
    }

    #[test]
    fn the_last_component_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(resolve_parent(&dir.path().join("absent")).unwrap(), real.join("absent"));
        assert_eq!(resolve_parent(&dir.path().join("absent/")).unwrap(), real.join("absent"));
        assert_eq!(resolve_parent(Path::new("/")).unwrap(), Path::new("/"));
        assert!(resolve_parent(&dir.path().join("absent/below")).is_err());
    }
}
