//! How far the watches are used.

use rustix::io::Errno;

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Messages handed to sessions.
    pub(crate) pushes: u64,
    /// Leases called back.
    pub(crate) revoked: u64,
    /// Leases not granted for want of a watch.
    pub(crate) refused: u64,
    /// Times the kernel dropped events.
    pub(crate) overflows: u64,
}

/// How far the watches are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchUsage {
    pub(crate) watches: usize,
    pub(crate) watches_max: usize,
    pub(crate) leases: usize,
    /// Why there is none, where the kernel gives no inotify.
    pub(crate) failed: Option<Errno>,
    pub(crate) counts: Counts,
}
