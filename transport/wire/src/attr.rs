//! Attributes: what `stat` shows of a file, and what identifies it.

use crate::{ByteLen, FileId, Timestamp, Version};

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// A text that the kernel resolves on the mount's side; never followed by the host.
    Symlink,
    /// A named pipe: listed, never opened.
    Fifo,
    /// A socket: listed, never opened.
    Socket,
    /// A character device: listed, never opened.
    CharDevice,
    /// A block device: listed, never opened.
    BlockDevice,
}

impl FileKind {
    /// All of them, in the order of their wire numbers, which start at 1.
    pub const ALL: [FileKind; 7] = [
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::Fifo,
        FileKind::Socket,
        FileKind::CharDevice,
        FileKind::BlockDevice,
    ];

    /// The kind that a mode's file type bits name (`S_IFMT`, inode(7)); `None` for bits no kernel sets.
    pub fn from_mode(mode: u32) -> Option<FileKind> {
        match mode & 0o170_000 {
            0o100_000 => Some(FileKind::Regular),
            0o040_000 => Some(FileKind::Directory),
            0o120_000 => Some(FileKind::Symlink),
            0o010_000 => Some(FileKind::Fifo),
            0o140_000 => Some(FileKind::Socket),
            0o020_000 => Some(FileKind::CharDevice),
            0o060_000 => Some(FileKind::BlockDevice),
            _ => None,
        }
    }
}

/// The attributes of one file, with its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Which file this is.
    pub id: FileId,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky: the low 12 bits of `st_mode`.
    pub perm: u16,
    /// Hard links.
    pub links: u32,
    /// Owner, as the host numbers users.
    pub uid: u32,
    /// Group, as the host numbers groups.
    pub gid: u32,
    /// Device number of a device node, in the kernel's 32-bit encoding.
    pub rdev: u32,
    /// Preferred size of a read.
    pub block_bytes: u32,
    /// Size in bytes.
    pub size: ByteLen,
    /// Space taken on the host, in units of 512 bytes.
    pub blocks: u64,
    /// Last read, as the host keeps it.
    pub atime: Timestamp,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of contents or attributes.
    pub ctime: Timestamp,
    /// Whether the last change lies so far back that a further one would show in the timestamps.
    pub settled: bool,
}

impl Attr {
    /// The version of the contents that these attributes describe.
    pub fn version(&self) -> Version {
        Version { size: self.size, mtime: self.mtime, ctime: self.ctime }
    }
}
