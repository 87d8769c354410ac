//! Listings: a directory's entries with their attributes, a page at a time.

use crate::{Attr, FileKind, Grant, Name};

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; the host leaves `.` and `..` out.
    pub name: Name,
    /// Where the listing goes on after this entry: the host file system's `d_off`, opaque to the mount.
    pub cookie: u64,
    /// The kind the directory itself tells; of use when `attr` is missing.
    pub kind: Option<FileKind>,
    /// Its attributes; `None` when the host could not look (it vanished meanwhile, or another file system
    /// refused), which the mount must treat as unknown, not as absent.
    pub attr: Option<Attr>,
}

impl Entry {
    /// Bytes it takes in a page: what a host counts against the size the mount asked for.
    pub fn wire_bytes(&self) -> usize {
        crate::codec::entry_bytes(self)
    }
}

/// One page of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The directory's own attributes, taken before its entries were read.
    pub dir: Attr,
    /// The entries in the file system's order.
    pub entries: Vec<Entry>,
    /// Whether the last entry of the directory is in this page (or there is none).
    pub end: bool,
    /// The answer to the wish for a lease; `None` where there was none.
    pub grant: Option<Grant>,
}

/// The state of a file system, as `statfs(2)` gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statfs {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Longest name.
    pub name_bytes_max: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for ordinary users.
    pub blocks_available: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
}
