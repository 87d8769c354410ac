//! What is said over the control socket: both ends are of one build, so there are no versions.

use serde::{Deserialize, Serialize};

/// Bytes of a request's line: some 10,000 paths.
pub(super) const REQUEST_BYTES_MAX: u64 = 8 << 20;
/// Bytes of paths that one request may bring: as numbers they take up to four times as much.
pub const PATH_BYTES_MAX: usize = 1 << 20;

/// What a mount may be asked to do, most of it with its disk cache. Paths are relative to the mount, as bytes, and may be patterns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Bring files, and what is in folders, into the cache.
    Warm(Vec<Vec<u8>>),
    /// Keep their chunks when room is made.
    Pin(Vec<Vec<u8>>),
    /// End that.
    Unpin(Vec<Vec<u8>>),
    /// Read and check all that the cache holds.
    Verify,
    /// Drop all that the cache holds.
    Clear,
    /// Say what changes at this path and below, until the client goes away.
    Watch(Vec<u8>),
}

/// What a mount says while it does that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It is at work.
    Alive,
    /// How far it is.
    Progress(Progress),
    /// Something that cannot be had; it goes on.
    Problem(Problem),
    /// So many folders are watched from here on.
    Watching(u64),
    /// Something changed.
    Changed(Changed),
    /// The end.
    Done(Done),
    /// The end, for a reason that is not one file's, in words for people.
    Failed(String),
}

/// How far a mount is with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Files found so far, or chunks looked at.
    pub items: u64,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes to do, as far as they are known.
    pub bytes_total: u64,
}

/// Something that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Relative to the mount; empty where it is not one file's.
    pub path: Vec<u8>,
    /// Why, and what to do.
    pub reason: String,
}

/// A change on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Relative to the mount.
    pub path: Vec<u8>,
    /// What happened to it.
    pub what: Vec<Happened>,
}

/// What happened to a name or its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// The name came to be, perhaps in place of another file's.
    Created,
    /// The name is gone, or was between.
    Removed,
    /// The file's bytes changed.
    Contents,
    /// Its attributes did.
    Attributes,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Files that are in the cache in full, or whose pin was set.
    pub files: u64,
    /// Chunks that are there and good.
    pub chunks: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that came from the host.
    pub fetched_bytes: u64,
    /// Files and patterns that could not be had.
    pub missing: u64,
    /// Chunks that were not what had been written, and are dropped.
    pub bad: u64,
    /// Chunks that could not be read.
    pub unread: u64,
}

impl Done {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Done) -> Done {
        Done {
            files: self.files + other.files,
            chunks: self.chunks + other.chunks,
            bytes: self.bytes + other.bytes,
            fetched_bytes: self.fetched_bytes + other.fetched_bytes,
            missing: self.missing + other.missing,
            bad: self.bad + other.bad,
            unread: self.unread + other.unread,
        }
    }
}
