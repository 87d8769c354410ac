//! Who is who: shares, files and tickets.

use std::fmt;

/// A share as one host numbers it within one session; the mount learns it from the welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareId(pub u16);

/// A file for as long as it lives, whatever its names: never given to another file, also across reboots.
///
/// The inode number alone is not enough: ext4 hands a deleted file's number to the next one. `st_dev` is not
/// part of it, since it changes across reboots. Source: ARCHITECTURE.md, "Identity".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The file system inside the share: a hash of (inode, birth) of the directory at which the share enters it.
    pub fs: u64,
    /// The inode number on the host.
    pub inode: u64,
    /// Birth time in nanoseconds since 1970 (truncated to 64 bits), or a hash of the kernel's file handle where
    /// the file system keeps no birth time; zero when neither is to be had.
    pub birth: u64,
}

impl FileId {
    /// Whether the id may be written to disk and trusted after a restart.
    pub fn is_persistent(&self) -> bool {
        self.birth != 0
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {:x}.{}.{:x}", self.fs, self.inode, self.birth)
    }
}

/// A mount's number of a lease, never zero, never used again in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {}", self.0)
    }
}

/// The public number of a ticket: what logs and lists show, never its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub [u8; 8]);

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl TicketId {
    /// Reads what `Display` prints: sixteen hexadecimal digits.
    pub fn parse(text: &str) -> Option<TicketId> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        bytes.try_into().ok().map(TicketId)
    }
}
