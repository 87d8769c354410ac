//! What a mount asks and a host answers: one request and one reply per QUIC stream.

use bytes::Bytes;

use crate::{
    Attr, ErrorCode, Extent, FileId, Grant, LeaseId, Listing, Name, ShareId, SharePath, Version,
    auth::{Claims, Proof},
    fingerprint::Fingerprint,
    listing::Statfs,
};

/// How urgent a request is; the host orders its answers by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Nobody waits: a cache is being filled.
    Warmup,
    /// Nobody waits yet.
    Readahead,
    /// A program waits for names or attributes.
    Metadata,
    /// A program waits for bytes.
    Demand,
}

/// A request with what the host needs to order it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its urgency.
    pub class: Class,
    /// A number of the mount's choosing that joins the logs of both sides.
    pub id: u64,
    /// How long the mount will wait, in milliseconds; the host may give up after it.
    pub deadline_ms: u32,
    /// Whether a listing may come compressed: of use where the path is slower than that takes.
    pub packs: bool,
    /// What is asked.
    pub request: Request,
}

/// Which file a request is about: requests are complete in themselves, so a host that restarts has lost nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The share.
    pub share: ShareId,
    /// The path below the ticket's prefix.
    pub path: SharePath,
    /// The file that the mount expects there; another one is answered with [`ErrorCode::Stale`].
    pub id: Option<FileId>,
}

/// What a mount asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first request of a session, and only the first.
    Hello(Hello),
    /// The attributes of a file. Answer: [`Reply::Attr`].
    Stat(Target),
    /// A page of a directory. Answer: [`Reply::Listing`].
    List {
        /// The directory.
        target: Target,
        /// Where to go on: zero, or the cookie of an entry seen before.
        cookie: u64,
        /// Bytes of entries wanted, at most [`crate::limits::LISTING_BYTES_MAX`].
        bytes_max: u32,
        /// Watch the directory before reading it, for a lease under this number; the listing tells whether it is granted.
        lease: Option<LeaseId>,
    },
    /// The text of a symlink. Answer: [`Reply::Link`].
    Readlink(Target),
    /// Bytes of a file at one version. Answer: [`Reply::Data`].
    Read {
        /// The file.
        target: Target,
        /// The version expected; another one is answered with [`ErrorCode::Stale`].
        version: Version,
        /// Which bytes: at most [`crate::limits::READ_BYTES_MAX`], inside the file.
        extent: Extent,
    },
    /// Whether ranges of a file still hold the bytes of these fingerprints. Answer: [`Reply::Verified`].
    Verify {
        /// The file.
        target: Target,
        /// At most [`crate::limits::VERIFY_RANGES_MAX`].
        ranges: Vec<(Extent, Fingerprint)>,
    },
    /// The state of a share's file system. Answer: [`Reply::Statfs`].
    Statfs(ShareId),
    /// The value of an extended attribute. Answer: [`Reply::Value`].
    GetXattr {
        /// The file.
        target: Target,
        /// The attribute, with its name space (`user.comment`).
        name: Vec<u8>,
    },
    /// The names of the extended attributes. Answer: [`Reply::Value`], each name ended by a NUL.
    ListXattr(Target),
    /// A lease on a directory: to be told of every change after its attributes. Answer: [`Reply::Leased`].
    Lease {
        /// The directory.
        target: Target,
        /// A number that this session has not used.
        lease: LeaseId,
    },
    /// These leases are not needed any more: at most [`crate::limits::RELEASE_MAX`], unknown ones pass. Answer:
    /// [`Reply::Released`].
    Release(Vec<LeaseId>),
    /// Whole small files of one directory. Answer: [`Reply::Files`].
    ReadFiles {
        /// The directory.
        dir: Target,
        /// At most [`crate::limits::FILES_MAX`], together at most [`crate::limits::READ_BYTES_MAX`] bytes.
        files: Vec<FileWanted>,
    },
}

/// A file that [`Request::ReadFiles`] asks for, all its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileWanted {
    /// Its name in the directory.
    pub name: Name,
    /// The file that the mount expects there; another one is answered with [`ErrorCode::Stale`].
    pub id: FileId,
    /// The version expected, which says how long it is; another one is answered with [`ErrorCode::Stale`].
    pub version: Version,
}

/// The mount introduces itself.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The oldest protocol version it speaks.
    pub version_min: u16,
    /// The newest.
    pub version_max: u16,
    /// What its ticket grants.
    pub claims: Claims,
    /// That it holds the secret.
    pub proof: Proof,
    /// Who it is, for the host's log: host name and mountpoint; at most [`crate::limits::NAME_BYTES_MAX`] bytes.
    pub label: String,
}

impl PartialEq for Hello {
    fn eq(&self, other: &Hello) -> bool {
        (self.version_min, self.version_max, &self.claims, self.proof.0, &self.label)
            == (other.version_min, other.version_max, &other.claims, other.proof.0, &other.label)
    }
}

impl Eq for Hello {}

/// The host lets the mount in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version of this session.
    pub version: u16,
    /// The session's number in the host's log.
    pub session: u64,
    /// A number drawn at each start of the host: another one means that it restarted.
    pub boot: u64,
    /// What the ticket opens, at most [`crate::limits::SHARES_MAX`].
    pub shares: Vec<ShareInfo>,
}

/// A share as the mount sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareInfo {
    /// Its number in this session.
    pub id: ShareId,
    /// Its name.
    pub name: Name,
    /// The attributes of its root (of the prefix, where the ticket names one).
    pub root: Attr,
}

/// What a host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Request::Hello`].
    Welcome(Welcome),
    /// To [`Request::Stat`].
    Attr(Attr),
    /// To [`Request::List`].
    Listing(Listing),
    /// To [`Request::Readlink`]: 1 to [`crate::limits::TARGET_BYTES_MAX`] bytes.
    Link(Bytes),
    /// To [`Request::Read`]: `len` bytes follow the reply, all that was asked for.
    Data {
        /// The version of the file before and after the read.
        version: Version,
        /// Bytes that follow.
        len: u32,
    },
    /// To [`Request::Verify`].
    Verified {
        /// The file as it is now, before and after its ranges were hashed.
        attr: Attr,
        /// For each range asked about, whether it holds the same bytes.
        equal: Vec<bool>,
    },
    /// To [`Request::Statfs`].
    Statfs(Statfs),
    /// To [`Request::GetXattr`] and [`Request::ListXattr`]: at most [`crate::limits::XATTR_BYTES_MAX`] bytes.
    Value(Bytes),
    /// To [`Request::Lease`].
    Leased {
        /// The directory, looked at after the watch was set.
        dir: Attr,
        /// Whether there is a lease now.
        grant: Grant,
    },
    /// To [`Request::Release`].
    Released,
    /// To [`Request::ReadFiles`], in its order: for each file its length, or why it is not here. The bytes of those that
    /// are follow the reply, one file after the other.
    Files(Vec<Result<u32, ErrorCode>>),
    /// To any request.
    Error {
        /// What the mount can do about it.
        code: ErrorCode,
        /// More for people; may be empty, at most [`crate::limits::DETAIL_BYTES_MAX`] bytes.
        detail: String,
    },
}

impl Reply {
    /// An error with nothing to add.
    pub fn error(code: ErrorCode) -> Reply {
        Reply::Error { code, detail: String::new() }
    }

    /// Bytes of data that follow the reply.
    pub fn data_bytes(&self) -> u64 {
        match self {
            Reply::Data { len, .. } => u64::from(*len),
            Reply::Files(files) => files.iter().flatten().copied().map(u64::from).sum(),
            Reply::Welcome(_)
            | Reply::Attr(_)
            | Reply::Listing(_)
            | Reply::Link(_)
            | Reply::Verified { .. }
            | Reply::Statfs(_)
            | Reply::Value(_)
            | Reply::Leased { .. }
            | Reply::Released
            | Reply::Error { .. } => 0,
        }
    }
}
