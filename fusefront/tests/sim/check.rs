//! What the model says of an answer.

use std::time::Duration;

use tokio::time::Instant;
use wire::{ErrorCode, Extent, FileKind, Version};
use wormhole_fusefront::{error::VfsError, vfs::attr::NodeAttr};

use crate::world::{Key, Seq, Span, World, join, key_of};

/// How long after a fault its consequences may still be felt: a session takes 6 s to be given up and some more to be
/// made again.
const AFTERMATH: Duration = Duration::from_secs(20);

/// For how long an answer of the mount's memory may be older than the question: the longest deadline of a question
/// that brought it, and the time attributes hold.
pub(crate) const MEMORY: Duration = Duration::from_secs(32);

/// What goes wrong, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    /// The link, the host or the time a disk takes.
    pub(crate) late_until: Option<Instant>,
    /// The disk's errors.
    pub(crate) broken_until: Option<Instant>,
}

impl Trouble {
    fn excuses(until: Option<Instant>, began: Instant) -> bool {
        until.is_some_and(|until| until + AFTERMATH >= began)
    }
}

/// What the model allows besides success.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    pub(crate) absent: bool,
    pub(crate) stale: bool,
}

/// Panics when an error has no reason.
pub(crate) fn error(error: &VfsError, allowed: Allowed, trouble: Trouble, began: Instant) {
    let late = Trouble::excuses(trouble.late_until, began);
    let broken = Trouble::excuses(trouble.broken_until, began);
    let fine = match error {
        VfsError::Stale => allowed.stale,
        VfsError::Host { code: ErrorCode::NotFound | ErrorCode::NotDirectory, .. } => allowed.absent,
        VfsError::Deadline | VfsError::Lost { .. } => late,
        VfsError::Host { code: ErrorCode::Busy | ErrorCode::Stopping, .. } => late,
        VfsError::Host { code: ErrorCode::Io, .. } => broken,
        _ => false,
    };
    assert!(fine, "{error:?} without a reason: {allowed:?}, late: {late}, broken: {broken}");
}

impl World {
    /// The versions that a file had at some moment of the span.
    pub(crate) fn versions(&self, key: Key, span: Span) -> Vec<Version> {
        self.states(key).iter().filter(|state| state.is_in(span)).map(|state| state.version).collect()
    }

    /// Whether a name of the file was taken away in the span: then the mount may look for it in vain.
    pub(crate) fn lost_a_name(&self, key: Key, span: Span) -> bool {
        self.all_bindings()
            .any(|(_, binding)| binding.key == key && binding.until > span.from && binding.until <= span.to)
    }

    /// The paths that led to a folder at some moment of the span.
    pub(crate) fn folder_paths(&self, folder: Key, span: Span) -> Vec<String> {
        let leads = |(path, binding): (&str, &crate::world::Binding)| {
            (binding.key == folder && binding.is_in(span)).then(|| path.to_owned())
        };
        let mut paths: Vec<String> = self.all_bindings().filter_map(leads).collect();
        paths.dedup();
        paths
    }

    /// Whether `path` was nobody's name at some moment of the span.
    pub(crate) fn was_absent(&self, path: &str, span: Span) -> bool {
        let mut covered = span.from;
        for binding in self.bindings(path) {
            if binding.from > covered {
                break;
            }
            covered = covered.max(binding.until);
        }
        covered <= span.to
    }

    /// Whether the name in the folder may not have been found.
    pub(crate) fn may_miss(&self, (folder, known): (Key, Span), name: &str, span: Span) -> bool {
        self.folder_paths(folder, known).iter().any(|path| self.was_absent(&join(path, name), span))
    }

    /// Panics unless the name led to the file found at some moment of the span.
    pub(crate) fn check_found(&self, (folder, known): (Key, Span), name: &str, span: Span, found: &NodeAttr) {
        let key = key_of(&found.attr.id);
        let leads = self.folder_paths(folder, known).iter().any(|path| {
            let path = join(path, name);
            self.bindings(&path).iter().any(|binding| binding.key == key && binding.is_in(span))
        });
        assert!(leads, "{name} was found to be {key:?}, which it never was");
        self.check_attr(key, span, found);
    }

    /// Panics unless the attributes are those of a state of the file in the span.
    pub(crate) fn check_attr(&self, key: Key, span: Span, found: &NodeAttr) {
        let attr = &found.attr;
        assert_eq!(key_of(&attr.id), key, "attributes of another file");
        let fits = |state: &&crate::world::State| {
            let same = state.kind == attr.kind && state.is_in(span);
            same && (attr.kind == FileKind::Directory || state.version == attr.version())
        };
        let found = self.states(key).iter().find(fits);
        assert!(found.is_some(), "{attr:?} is no state of {key:?} in {span:?}");
    }

    /// Whether bytes read are those of a version, each byte one that some contents of this version had in the span:
    /// where the clock is coarse, several have one.
    fn is_read_of(&self, (key, version): (Key, Version), extent: Extent, bytes: &[u8], span: Span) -> bool {
        let extent = extent.clip(version.size);
        if bytes.len() as u64 != extent.len.0 {
            return false;
        }
        if bytes.is_empty() {
            return true;
        }
        let (start, end) = (extent.start.0 as usize, extent.end().0 as usize);
        let states = self.states(key).iter().filter(|state| state.version == version && state.is_in(span));
        let mut contents: Vec<&[u8]> = states.map(|state| &state.bytes[start..end]).collect();
        contents.dedup_by(|a, b| std::ptr::eq(*a, *b));
        match contents.as_slice() {
            [] => false,
            [only] => *only == bytes,
            many => (0..bytes.len()).all(|i| many.iter().any(|contents| contents[i] == bytes[i])),
        }
    }
}

/// What is known of an open file: which versions its bytes may be of.
pub(crate) struct Opened {
    pub(crate) key: Key,
    /// The moment at which the node was looked up at the earliest.
    pub(crate) since: Seq,
    /// The moment at which the open began.
    pub(crate) from: Seq,
    versions: Vec<Version>,
    served: Vec<(u64, Vec<u8>)>,
}

impl Opened {
    pub(crate) fn new(world: &World, key: Key, since: Seq, span: Span) -> Opened {
        let versions = world.versions(key, span);
        assert!(!versions.is_empty(), "{key:?} was opened when it was not there");
        Opened { key, since, from: span.from, versions, served: Vec::new() }
    }

    /// Panics unless what was served is of a version that the file had in the span.
    pub(crate) fn narrow(&mut self, world: &World, span: Span) {
        let now = world.versions(self.key, span);
        let mut left = self.later(world, span.to);
        left.retain(|version| now.contains(version));
        assert!(!left.is_empty(), "pages of {:?} are kept for {now:?}", self.versions);
        self.versions = left;
    }

    /// Panics unless the bytes are those that the handle must give.
    pub(crate) fn check_read(&mut self, world: &World, extent: Extent, bytes: &[u8], until: Seq) {
        let fits = |version: &Version| {
            world.is_read_of((self.key, *version), extent, bytes, Span { from: self.from, to: until })
        };
        let mut left: Vec<Version> = self.versions.iter().copied().filter(|version| fits(version)).collect();
        if left.is_empty() {
            left = self.later(world, until).into_iter().filter(|version| fits(version)).collect();
        }
        assert!(
            !left.is_empty(),
            "wrong bytes: {} at {extent} of {:?}, which may be of {:?}; known: {:?}",
            bytes.len(),
            self.key,
            self.versions,
            world.states(self.key).iter().map(|state| (state.from, state.version)).collect::<Vec<_>>(),
        );
        left.dedup();
        self.versions = left;
        self.served.push((extent.start.0, bytes.to_owned()));
    }

    /// The versions that the handle may have moved on to: everything that was read of it is still there.
    fn later(&self, world: &World, until: Seq) -> Vec<Version> {
        let mut found = self.versions.clone();
        for state in world.states(self.key).iter().filter(|state| state.from <= until) {
            let version = state.version;
            let moves = |held: &Version| held.ctime < version.ctime;
            let holds = |(start, bytes): &(u64, Vec<u8>)| {
                world.is_read_of(
                    (self.key, version),
                    Extent::new(*start, bytes.len() as u64),
                    bytes,
                    Span { from: self.from, to: until },
                )
            };
            if found.iter().any(moves) && self.served.iter().all(holds) {
                found.push(version);
            }
        }
        found
    }

    /// Whether a read may be refused as stale: bytes of the file changed since the open, more than that some were
    /// added at its end, or it lost the name it was found by. Or its version does not tell a change from before the
    /// open (both within a clock's tick): another handle of that version was given the older bytes, and the two share
    /// the kernel's pages (seed 6677).
    pub(crate) fn may_be_stale(&self, world: &World, until: Seq) -> bool {
        let span = Span { from: self.from, to: until };
        let states = world.states(self.key).iter().filter(|state| state.is_in(span));
        let changed = states.clone().zip(states.clone().skip(1)).any(|(a, b)| !b.bytes.starts_with(&a.bytes));
        let mut states = states;
        let blurred = states.any(|a| {
            world.states(self.key).iter().any(|b| a.version == b.version && !b.bytes.starts_with(&a.bytes))
        });
        changed || blurred || world.lost_a_name(self.key, Span { from: self.since, to: until })
    }
}
