//! Units: two of them are two types, so that an offset is never added to an offset.

use std::fmt;

/// A position in a file, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteOffset(pub u64);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteLen(pub u64);

impl ByteOffset {
    /// The position `len` further on, or `None` past `u64::MAX`.
    pub fn checked_add(self, len: ByteLen) -> Option<ByteOffset> {
        self.0.checked_add(len.0).map(ByteOffset)
    }

    /// The bytes from `start` up to here; zero when here lies before it.
    pub fn saturating_since(self, start: ByteOffset) -> ByteLen {
        ByteLen(self.0.saturating_sub(start.0))
    }
}

impl fmt::Display for ByteOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}", self.0)
    }
}

impl fmt::Display for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// A file's time as the host's file system keeps it: seconds since 1970, before it when negative.
///
/// Two fields because a 64-bit nanosecond count ends in 2262 and begins in 1677, and files carry other dates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// Nanoseconds past `secs`, below 1,000,000,000.
    pub nanos: u32,
}

/// Nanoseconds in a second: the bound of [`Timestamp::nanos`].
pub const NANOS_PER_SEC: u32 = 1_000_000_000;
