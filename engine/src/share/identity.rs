//! Which file system a file is on, in a form that survives a reboot.

use std::{
    collections::HashMap,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{fs::fstatfs, io::Errno};
use wire::SharePath;

use super::resolve::{self, Reach};
use crate::attr::{FileSystem, Look};

/// File systems one share may span before the table starts anew; entries are found again by walking.
const FILE_SYSTEMS_MAX: usize = 1024;

/// Two clock ticks at 100 Hz: how close two changes can lie and show the same time on a local Linux file system.
const SETTLES_AFTER_LOCAL: Duration = Duration::from_millis(20);
/// The same for file systems with coarse times or clocks of their own (FAT keeps two seconds, NFS the server's clock).
const SETTLES_AFTER_OTHER: Duration = Duration::from_secs(2);

impl FileSystem {
    /// The file system that a share enters at the directory (or file) of `look`, open as `fd`.
    fn entered_at(look: &Look, fd: BorrowedFd<'_>) -> Result<FileSystem, Errno> {
        // The kernel's field is signed on some architectures; only the low 32 bits are the number.
        let magic = fstatfs(fd)?.f_type.cast_unsigned() & 0xffff_ffff;
        let local = is_local(magic);
        Ok(FileSystem {
            id: file_system_id(look.inode(), look.birth()),
            settles_after: if local { SETTLES_AFTER_LOCAL } else { SETTLES_AFTER_OTHER },
            quick: local,
            tells: tells_changes(magic),
        })
    }
}

/// The first eight bytes of the BLAKE3 over inode number and birth time of the directory at the top.
fn file_system_id(inode: u64, birth: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&inode.to_le_bytes());
    hasher.update(&birth.to_le_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

/// ext4, XFS, Btrfs and tmpfs by the numbers of `statfs(2)`: times of one tick, looks that do not leave the kernel.
fn is_local(magic: u64) -> bool {
    matches!(magic, 0xef53 | 0x5846_5342 | 0x9123_683e | 0x0102_1994)
}

/// The file systems of this machine's own disks and memory, by the numbers of `statfs(2)`. What is not known to be one may
/// have another machine, or a program, that changes it behind the kernel's back.
fn tells_changes(magic: u64) -> bool {
    const BCACHEFS: u64 = 0xca45_1a4e;
    const EXFAT: u64 = 0x2011_bab0;
    const F2FS: u64 = 0xf2f5_2010;
    const ISO9660: u64 = 0x9660;
    const JFS: u64 = 0x3153_464a;
    const NILFS: u64 = 0x3434;
    const NTFS3: u64 = 0x7366_746e;
    // What is changed below it, behind its back, is undefined (the kernel's overlayfs.rst); through it, all is told.
    const OVERLAYFS: u64 = 0x794c_7630;
    const RAMFS: u64 = 0x8584_58f6;
    const SQUASHFS: u64 = 0x7371_7368;
    const UDF: u64 = 0x1501_3346;
    const VFAT: u64 = 0x4d44;
    const ZFS: u64 = 0x2fc1_2fc1;
    is_local(magic)
        || matches!(
            magic,
            BCACHEFS
                | EXFAT
                | F2FS
                | ISO9660
                | JFS
                | NILFS
                | NTFS3
                | OVERLAYFS
                | RAMFS
                | SQUASHFS
                | UDF
                | VFAT
                | ZFS
        )
}

/// The file systems of one share, by the device numbers they have in this process' life.
#[derive(Debug)]
pub(crate) struct FileSystems {
    known: Mutex<HashMap<u64, FileSystem>>,
    root_device: u64,
    root: FileSystem,
}

impl FileSystems {
    /// The table of the share whose root is open as `root`.
    pub(crate) fn of_root(root: BorrowedFd<'_>) -> Result<FileSystems, Errno> {
        let look = Look::at(root)?;
        let fs = FileSystem::entered_at(&look, root)?;
        Ok(FileSystems { known: Mutex::new(HashMap::new()), root_device: look.device(), root: fs })
    }

    /// The file system of `look`, if it has been met before; never blocks.
    pub(crate) fn known(&self, look: &Look) -> Option<FileSystem> {
        let device = look.device();
        if device == self.root_device {
            return Some(self.root);
        }
        self.known.lock().get(&device).copied()
    }

    /// The file system of `look`, taken at `path` below `root`; walks down the path when it is a new one.
    ///
    /// May block on the disk.
    pub(crate) fn find(
        &self,
        look: &Look,
        root: BorrowedFd<'_>,
        path: &SharePath,
    ) -> Result<FileSystem, Errno> {
        if let Some(fs) = self.known(look) {
            return Ok(fs);
        }
        let device = look.device();
        let fs = topmost(root, path, device)?;
        let mut known = self.known.lock();
        if known.len() >= FILE_SYSTEMS_MAX {
            known.clear();
        }
        known.insert(device, fs);
        Ok(fs)
    }
}

/// The file system `device` at the first component of `path` that lies on it.
fn topmost(root: BorrowedFd<'_>, path: &SharePath, device: u64) -> Result<FileSystem, Errno> {
    let bytes = path.as_bytes();
    let ends = bytes.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
    for end in ends.chain([bytes.len()]) {
        let at = resolve::open(root, &bytes[..end], Reach::Whole)?;
        let look = Look::at(at.as_fd())?;
        if look.device() == device {
            return FileSystem::entered_at(&look, at.as_fd());
        }
    }
    // Renamed or unmounted since the look.
    Err(Errno::STALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_hashes_inode_and_birth() {
        let mut input = Vec::new();
        input.extend_from_slice(&2u64.to_le_bytes());
        input.extend_from_slice(&99u64.to_le_bytes());
        let hash = blake3::hash(&input);
        let expected = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
        assert_eq!(file_system_id(2, 99), expected);
        assert_ne!(file_system_id(2, 99), file_system_id(2, 98));
    }

    #[test]
    fn the_same_root_gives_the_same_id_again() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let first = FileSystems::of_root(fd.as_fd()).unwrap();
        let again = FileSystems::of_root(fd.as_fd()).unwrap();
        assert_eq!(first.root, again.root);
        assert_eq!(first.known(&Look::at(fd.as_fd()).unwrap()), Some(first.root));
    }
}
