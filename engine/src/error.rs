//! What can go wrong at the two edges of the host: starting it, and answering a request.

use std::{io, net::SocketAddr, path::PathBuf};

use rustix::io::Errno;
use wire::{ErrorCode, Name, Reply, SharePath, TicketId, limits};

/// A host did not start, or did not stop cleanly. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The options do not make a host.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Name another folder, or make it first.
    #[error("{path:?} does not exist: name an existing folder")]
    ShareMissing {
        /// As it was given.
        path: PathBuf,
    },
    /// Name the folder that holds it.
    #[error("{path:?} is not a folder: name the folder that holds it")]
    ShareNotFolder {
        /// As it was given.
        path: PathBuf,
    },
    /// Run as a user who may read it.
    #[error("{path:?} cannot be read by this user: run the host as a user who may")]
    ShareUnreadable {
        /// As it was given.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A host that serves a Wormhole mount would in the end wait for itself.
    #[error(
        "{path:?} lies in or holds the wormhole mount {mountpoint:?}: host another folder, or unmount that one"
    )]
    ShareHoldsMount {
        /// As it was given.
        path: PathBuf,
        /// The mount in the way.
        mountpoint: PathBuf,
    },
    /// A pattern that is not one, or that never matches. Nothing is served before it is mended.
    #[error("the share {share} has the pattern {pattern:?}: {reason}; gitignore(5) describes patterns")]
    Pattern {
        /// Whose it is.
        share: Name,
        /// As it was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More patterns than are matched against every name.
    #[error("the share {share} has {count} patterns: give {max} at most, fewer with wildcards")]
    PatternCount {
        /// Whose they are.
        share: Name,
        /// How many were given.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The kernel or its sandbox lacks a call that keeps requests inside a share.
    #[error("this system lacks {what}: Linux 5.6 or newer with /proc is needed")]
    Kernel {
        /// The missing call or file system.
        what: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Choose another state directory, or mend this one.
    #[error("the state directory's {path:?} cannot be used: choose another with --state-dir")]
    State {
        /// The file or folder.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A key file of the wrong length; nothing is overwritten.
    #[error("{path:?} is damaged: restore it, or remove it, which makes all tickets given out worthless")]
    StateDamaged {
        /// The file.
        path: PathBuf,
    },
    /// Not the registry that was written. Nothing is overwritten: what it says of revoked tickets must not be lost.
    #[error(
        "{path:?}, the list of tickets, is damaged: restore it from a copy; without one, remove it together with ticket.key, \
         which makes all tickets given out worthless (removing it alone would let revoked tickets in again)"
    )]
    TicketsDamaged {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later version.
    #[error("{path:?}, the list of tickets, is of a newer version: update wormhole on this machine")]
    TicketsNewer {
        /// The file.
        path: PathBuf,
    },
    /// Stop the other host, or give this one its own state directory.
    #[error("the state directory {path:?} is in use by {}: stop that host, or choose another with --state-dir", holder(.pid))]
    StateLocked {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, where it told.
        pid: Option<u32>,
    },
    /// The host key could not be read or made.
    #[error("the state directory gives no host key: mend it as follows, or choose another with --state-dir")]
    Identity(#[source] transport::IdentityError),
    /// The port is taken or the address is not this machine's.
    #[error(transparent)]
    Bind(transport::BindError),
    /// No interface has an address a ticket could name.
    #[error("this machine has no network address to put into a ticket: name one with --advertise HOST:PORT")]
    NoAddress,
    /// The interfaces could not be listed.
    #[error("the machine's addresses cannot be listed: name one with --advertise HOST:PORT")]
    Interfaces(#[source] io::Error),
    /// The slab could not be made.
    #[error(
        "the buffer memory cannot be had: give the host less with --memory, or raise the process's limit"
    )]
    Pool(#[from] uring::PoolError),
    /// The ring could not be started or drained.
    #[error("the disk reader failed")]
    Ring(#[from] uring::RingError),
    /// A thread could not be started.
    #[error("the network thread cannot be started: this process is at a limit of threads or memory")]
    Thread(#[source] io::Error),
    /// Connections were cut instead of ended.
    #[error("sessions on {addresses:?} did not end in time and were cut")]
    StopDeadline {
        /// Where the host listened.
        addresses: Vec<SocketAddr>,
    },
}

/// A ticket was not made, found or ended. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Name one that the host serves.
    #[error("the host has no share {name}: it has {}", list(served))]
    UnknownShare {
        /// As it was asked for.
        name: Name,
        /// What the host serves.
        served: Vec<Name>,
    },
    /// Name a folder that is there.
    #[error("the share {share} has no folder {prefix}: {reason}")]
    Prefix {
        /// In which share it was looked for; the first of them where none has it.
        share: Name,
        /// As it was asked for.
        prefix: SharePath,
        /// What is in the way.
        reason: String,
    },
    /// Fewer shares.
    #[error("{count} shares: a ticket names {} at most, or none for all", limits::SHARES_MAX)]
    ShareCount {
        /// How many were asked for.
        count: usize,
    },
    /// Another label.
    #[error("a label has at most {bytes_max} bytes, in one line")]
    Label {
        /// The bound.
        bytes_max: usize,
    },
    /// A later end.
    #[error("{} is not in the future: the ticket would be refused at once", crate::tickets::date::utc(*at))]
    InThePast {
        /// Seconds since 1970.
        at: u64,
    },
    /// Let some run out; an end for each new one helps.
    #[error(
        "the host remembers {} tickets, which is its bound: give tickets an end (--expires), or start anew with another \
         state directory",
        crate::config::TICKETS_MAX
    )]
    Full,
    /// Make the state directory writable.
    #[error("no ticket was made, because {path:?} could not be written")]
    Save {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// Make the state directory writable and revoke again.
    #[error(
        "revoked, its sessions ended, but only until the host stops, because {path:?} could not be written: mend that \
         and revoke it again"
    )]
    RevokedUnsaved {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A new key ends them all.
    #[error(
        "no more tickets can be revoked that are not in the list: stop the host and remove ticket.key and tickets.json from \
         its state directory, which makes all tickets given out worthless"
    )]
    RevokedFull,
    /// See `ticket list`.
    #[error("no ticket has the id or label {text:?}: see `wormhole-engine ticket list --all`")]
    Unknown {
        /// As it was asked for.
        text: String,
    },
    /// Say more of its id.
    #[error("{text:?} could be any of these: {}; give more of the id", ambiguous(found))]
    Ambiguous {
        /// As it was asked for.
        text: String,
        /// Ids and labels.
        found: Vec<(TicketId, String)>,
    },
    /// The kernel failed.
    #[error("no ticket was made: the kernel gives no random numbers")]
    NoRandom,
}

fn list(names: &[Name]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Ten of them: more would not help to choose.
fn ambiguous(found: &[(TicketId, String)]) -> String {
    let mut lines: Vec<_> = found.iter().take(10).map(|(id, label)| format!("{id} ({label})")).collect();
    if found.len() > lines.len() {
        lines.push(format!("and {} more", found.len() - lines.len()));
    }
    lines.join(", ")
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another host".to_owned(), |pid| format!("the host with process id {pid}"))
}

/// Why a request was not done: an error reply before it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What the mount can do about it.
    pub(crate) code: ErrorCode,
    /// More for people; never a path above the share.
    pub(crate) detail: String,
}

impl Fault {
    /// A fault that its code explains.
    pub(crate) fn new(code: ErrorCode) -> Fault {
        Fault { code, detail: String::new() }
    }

    /// A fault with something to add.
    pub(crate) fn with(code: ErrorCode, detail: impl Into<String>) -> Fault {
        Fault { code, detail: detail.into() }
    }

    /// The waiting for `what` used up the request's time.
    pub(crate) fn late(what: &str) -> Fault {
        Fault::with(ErrorCode::Busy, format!("no {what} within the request's time"))
    }
}

/// An error with its reasons in one line; a reason that is quoted before it is not said twice.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        let said = reason.to_string();
        if !line.contains(&said) {
            line = format!("{line}: {said}");
        }
        source = reason.source();
    }
    line.replace('\n', " ")
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        let code = code_of(errno);
        // Where the code stands for one error, its own text says it.
        let explained = matches!(code, ErrorCode::NotFound | ErrorCode::NotDirectory | ErrorCode::Loop);
        Fault { code, detail: if explained { String::new() } else { errno.to_string() } }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Fault::with(ErrorCode::Io, error.to_string()),
        }
    }
}

impl From<Fault> for Reply {
    fn from(fault: Fault) -> Reply {
        Reply::Error { code: fault.code, detail: fault.detail }
    }
}

/// The one place where the kernel's errors become the wire's. What is not known stays a failure of the disk: it must
/// never turn into "no such file".
fn code_of(errno: Errno) -> ErrorCode {
    match errno {
        Errno::NOENT => ErrorCode::NotFound,
        Errno::NOTDIR => ErrorCode::NotDirectory,
        Errno::ISDIR => ErrorCode::IsDirectory,
        Errno::ACCESS | Errno::PERM => ErrorCode::PermissionDenied,
        Errno::LOOP => ErrorCode::Loop,
        Errno::NAMETOOLONG | Errno::XDEV | Errno::INVAL => ErrorCode::Invalid,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN => ErrorCode::Busy,
        Errno::STALE => ErrorCode::Stale,
        Errno::NODATA => ErrorCode::NoAttribute,
        Errno::NOTSUP | Errno::NOSYS => ErrorCode::NotSupported,
        _ => ErrorCode::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_file_is_not_found() {
        assert_eq!(code_of(Errno::NOENT), ErrorCode::NotFound);
        for raw in 1..200 {
            let errno = Errno::from_raw_os_error(raw);
            assert_eq!(code_of(errno) == ErrorCode::NotFound, errno == Errno::NOENT, "{errno}");
        }
        assert_eq!(code_of(Errno::IO), ErrorCode::Io);
        assert_eq!(code_of(Errno::from_raw_os_error(4_000)), ErrorCode::Io);
        assert_eq!(code_of(Errno::MFILE), ErrorCode::Busy);
    }

    #[test]
    fn an_error_without_a_number_is_a_failing_disk() {
        let fault = Fault::from(io::Error::other("torn"));
        assert_eq!(fault, Fault::with(ErrorCode::Io, "torn"));
        assert_eq!(Fault::from(io::Error::from_raw_os_error(13)).code, ErrorCode::PermissionDenied);
    }
}
