//! What a mount is asked to do, valid by construction.

use std::{path::PathBuf, time::Duration};

use transport::KeyLog;
use wire::{Name, Ticket};

/// Bytes of slab without `--memory`.
pub const MEMORY_BYTES_DEFAULT: u64 = 128 << 20;
/// The smallest slab: room for one window of read-ahead and a few readers.
pub const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// How long an operation may take without `--deadline`.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// Bytes of the disk cache without `--cache-size`.
pub const CACHE_BYTES_DEFAULT: u64 = 10 << 30;
/// The smallest disk cache: a few regions beside the bookkeeping.
pub const CACHE_BYTES_MIN: u64 = 16 << 20;

/// Place and bound of the disk cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// The folder, made when it is missing. Mounts may share it.
    pub dir: PathBuf,
    /// The most that it takes.
    pub quota_bytes: u64,
}

/// Whose requests the mount answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// The mounting user's alone.
    #[default]
    Owner,
    /// Every user's, checked against the modes of the files.
    Everyone,
}

/// What programs see while the host is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// They wait for it up to the deadline, then get an I/O error.
    #[default]
    Block,
    /// An I/O error at once, for all that kernel and memory cannot answer.
    Fail,
    /// What memory holds, however old; an I/O error at once for the rest.
    Stale,
}

impl OnDisconnect {
    /// As it is typed and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            OnDisconnect::Block => "block",
            OnDisconnect::Fail => "fail",
            OnDisconnect::Stale => "stale",
        }
    }
}

/// What programs on the mount may do, as mount(8) names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountFlags {
    /// Setuid and setgid programs gain what they say; off unless asked for, since the host sets these bits.
    pub suid: bool,
    /// Device nodes work; off unless asked for.
    pub dev: bool,
    /// Programs do not start from the mount.
    pub noexec: bool,
}

/// One mount to be.
#[derive(Clone, Debug)]
pub struct MountConfig {
    /// What reaches the host.
    pub ticket: Ticket,
    /// The share, where the ticket opens several.
    pub share: Option<Name>,
    /// Where.
    pub mountpoint: PathBuf,
    /// Bytes of slab: caches, read-ahead and data in flight together.
    pub memory_bytes: u64,
    /// The disk cache; none where there is to be none.
    pub cache: Option<CacheConfig>,
    /// No operation outlives this.
    pub deadline: Duration,
    /// What becomes of operations while the host is out of reach.
    pub on_disconnect: OnDisconnect,
    /// Whether it may begin while the host is out of reach, from what earlier mounts with the ticket knew. Needs the
    /// disk cache, and [`OnDisconnect::Stale`].
    pub offline_ok: bool,
    /// For whom.
    pub access: Access,
    /// What may be done there.
    pub flags: MountFlags,
    /// Where the secrets of sessions are written; nowhere unless somebody is to decrypt them.
    pub key_log: Option<KeyLog>,
}

impl MountConfig {
    /// A mount with the defaults of `wormhole mount`, but without a disk cache.
    pub fn new(ticket: Ticket, mountpoint: PathBuf) -> MountConfig {
        MountConfig {
            ticket,
            share: None,
            mountpoint,
            memory_bytes: MEMORY_BYTES_DEFAULT,
            cache: None,
            deadline: DEADLINE_DEFAULT,
            on_disconnect: OnDisconnect::default(),
            offline_ok: false,
            access: Access::default(),
            flags: MountFlags::default(),
            key_log: None,
        }
    }
}
