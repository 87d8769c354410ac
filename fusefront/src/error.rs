//! What can go wrong: with an operation on the mount, and with mounting.

use std::{io, path::PathBuf};

use transport::{CallError, ConnectError};
use uring::PoolError;
use wire::ErrorCode;

use crate::holders::Holders;

/// Why an operation on the mount failed. `errno.rs` says what a program sees of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VfsError {
    /// The host looked, and said no.
    #[error("{code}")]
    Host {
        /// What it said.
        code: ErrorCode,
        /// More for people; may be empty.
        detail: String,
    },
    /// The host gave no answer in time.
    #[error("the host gave no answer within the deadline")]
    Deadline,
    /// The session is lost and did not come back in time.
    #[error("the session with the host is lost: {reason}")]
    Lost {
        /// Why.
        reason: String,
    },
    /// The host broke the protocol.
    #[error("the host broke the protocol: {reason}")]
    Protocol {
        /// How.
        reason: String,
    },
    /// The mount is ending.
    #[error("the mount is closing")]
    Closed,
    /// The file was replaced or rewritten under the kernel's node or under an open handle: look it up or open it
    /// again.
    #[error("the file changed on the host")]
    Stale,
    /// A name that no file can have on the host.
    #[error("no such name")]
    NoSuchName,
    /// A name or a path over the protocol's limits.
    #[error("the name or path is too long")]
    TooLong,
    /// A directory where a file was meant.
    #[error("is a directory")]
    IsDirectory,
    /// A file where a directory was meant.
    #[error("not a directory")]
    NotDirectory,
    /// A handle the vfs never gave out, or took back.
    #[error("no such open handle")]
    BadHandle,
    /// Something would be changed.
    #[error("the share is read-only")]
    ReadOnly,
    /// The caller's buffer is smaller than the answer.
    #[error("the answer does not fit")]
    DoesNotFit,
}

impl VfsError {
    /// The same for a request about a file that was found before: that its name leads nowhere any more is no answer to
    /// that; the file is stale, and a look-up says what is absent.
    pub(crate) fn about_a_found_file(self) -> VfsError {
        match self {
            VfsError::Host {
                code: ErrorCode::NotFound | ErrorCode::NotDirectory | ErrorCode::Loop, ..
            } => VfsError::Stale,
            other => other,
        }
    }
}

impl From<CallError> for VfsError {
    fn from(error: CallError) -> VfsError {
        match error {
            CallError::Host { code: ErrorCode::Stale, .. } => VfsError::Stale,
            CallError::Host { code, detail } => VfsError::Host { code, detail },
            CallError::Deadline => VfsError::Deadline,
            CallError::Lost { reason } => VfsError::Lost { reason },
            CallError::Closed => VfsError::Closed,
            CallError::Protocol(error) => VfsError::Protocol { reason: error.to_string() },
            CallError::UnexpectedReply { reason } => VfsError::Protocol { reason: reason.to_owned() },
        }
    }
}

/// Why a share was not mounted, or is not unmounted. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Nothing is there to mount on.
    #[error("{} does not exist: create the mountpoint first (mkdir -p)", path.display())]
    NoMountpoint {
        /// The mountpoint.
        path: PathBuf,
    },
    /// Something other than a folder.
    #[error("{} is not a folder: a mountpoint must be an empty folder", path.display())]
    NotAFolder {
        /// The mountpoint.
        path: PathBuf,
    },
    /// What lies in the folder would be hidden.
    #[error("{} is not empty: choose an empty folder, or move what is in it", path.display())]
    NotEmpty {
        /// The mountpoint.
        path: PathBuf,
    },
    /// Something is mounted there.
    #[error("{} is already a mountpoint ({fstype}): unmount that first", path.display())]
    AlreadyMounted {
        /// The mountpoint.
        path: PathBuf,
        /// The file system there.
        fstype: String,
    },
    /// A mount whose process died, and that is not ours to remove.
    #[error("{} holds a dead mount of another program: remove it with `umount --lazy {}` or `fusermount3 -u -z {}`", path.display(), path.display(), path.display())]
    DeadMount {
        /// The mountpoint.
        path: PathBuf,
    },
    /// Another process mounts there at this moment.
    #[error("another `wormhole mount` is starting on {}: wait for it, or choose another folder", path.display())]
    Starting {
        /// The mountpoint.
        path: PathBuf,
    },
    /// The mountpoint cannot be looked at.
    #[error("the mountpoint {} cannot be used", path.display())]
    Mountpoint {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's FUSE device is missing.
    #[error(
        "/dev/fuse is missing: load the module (modprobe fuse); in a container, start it with --device /dev/fuse"
    )]
    NoFuseDevice,
    /// The kernel's FUSE device may not be used.
    #[error("/dev/fuse cannot be opened: run as root, or let this user read and write it")]
    FuseDevice(#[source] io::Error),
    /// The kernel or fusermount3 refused.
    #[error("the kernel refused to mount on {}", path.display())]
    Attach {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No session with the host.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No session, and no earlier mount that knew anything.
    #[error(
        "{0}; and no mount with --offline-ok and this ticket has left here what it knew, to begin without the host"
    )]
    NothingKnown(ConnectError),
    /// The host refused the ticket, whose time is over.
    #[error("this ticket expired on {end}: ask for a new one")]
    Expired {
        /// When, in UTC.
        end: String,
    },
    /// The ticket opens nothing.
    #[error("the ticket opens no share of this host: ask for another ticket")]
    NoShare,
    /// The ticket does not open this share.
    #[error("the ticket does not open a share named {name}; it opens {names}")]
    UnknownShare {
        /// The one asked for.
        name: String,
        /// Those it opens.
        names: String,
    },
    /// The slab could not be had.
    #[error("the memory for the cache could not be reserved: choose a smaller --memory")]
    Memory(#[source] PoolError),
    /// A thread or the runtime did not start.
    #[error("a thread could not be started")]
    Thread(#[source] io::Error),
    /// The path to unmount is no mount of ours.
    #[error("{} is not a wormhole mount (`wormhole status` lists them)", path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
    },
    /// Programs use the mount.
    #[error(
        "{} is busy: a program has a file open or its working directory there{by}; close it, or detach with `wormhole unmount --lazy {}`",
        path.display(), path.display()
    )]
    Busy {
        /// The mountpoint.
        path: PathBuf,
        /// Who uses it, as far as this user may see.
        by: Holders,
    },
    /// The kernel or fusermount3 refused to unmount.
    #[error("{} could not be unmounted", path.display())]
    Detach {
        /// The mountpoint.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was unmounted, and is there all the same.
    #[error("{} is still mounted: detach it with `wormhole unmount --lazy {}`", path.display(), path.display())]
    StillMounted {
        /// The mountpoint.
        path: PathBuf,
    },
    /// Neither root nor the helper that mounts for others.
    #[error("without root, mounting and unmounting need fusermount3: install the package fuse3")]
    NoFusermount,
}
