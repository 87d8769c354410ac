//! What this mount has handed out of one file, so that a change on the host need not disturb who reads it.
//!
//! A handle promises the bytes of one version. When the host's file changes, the promise can be kept by moving to the
//! new version if every byte handed out so far (to programs, and so into the kernel's page cache) is the same there:
//! then all that was read and all that will be is of the new version. The *ledger* holds what that takes: each range
//! handed out, with its fingerprint. The host is asked about them (`Verify`), and only a real change is stale.
//!
//! What the disk cache has, whole chunks of this very version, it has hashed already: the ledger then only notes that,
//! and takes the hashes from there when they are needed. What was evicted by then cannot be proved any more.
//!
//! The ledger is bounded; contents that outgrow it, or were forgotten and are opened again with pages still in the
//! kernel, cannot be verified: any change makes them stale.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use engine::cache::{ContentKey, L2};
use parking_lot::Mutex;
use wire::{
    ByteLen, CHUNK_BYTES, Extent, FileId, Version, chunk::ContentHash, fingerprint::Fingerprint,
    limits::READ_BYTES_MAX,
};

use super::{HandedOut, spent::Spent};

/// Ranges of one ledger: 10 GiB read in order. 64 bytes each, so at most 640 KiB.
pub(super) const RANGES_MAX: usize = 10 * 1024;

/// The contents of one file as its handles have read them.
///
/// Handles that were opened at one version share it, since they share the kernel's pages: what one was given, another
/// may read.
pub struct Content {
    file: Named,
    /// One look at the host at a time.
    pub(super) gate: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Whether the state is [`Standing::Current`], for the fast path.
    current: AtomicBool,
}

struct State {
    standing: Standing,
    /// The name of its blocks in memory; stays when the contents move to a new version.
    key: ContentKey,
    /// The name of its chunks on the disk, of this very version; `None` when they may not be kept.
    kept_as: Option<ContentKey>,
    version: Version,
    settled: bool,
    /// The greatest length that the kernel may have been told of the file, where that is beyond the version's.
    told: ByteLen,
    /// `None` when what was handed out is not known in full.
    ledger: Option<Ledger>,
}

/// What names a file for as long as it exists.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// Of which host.
    pub(super) host_key: [u8; 32],
    /// In which of its shares.
    pub(super) share: Box<[u8]>,
    /// Which file.
    pub(super) id: FileId,
}

impl Named {
    /// The name of its contents at a version. Of a version that does not tell every change they are met again by other
    /// bytes: `salt` then is a number that nobody else has, else zero.
    pub(super) fn at(&self, version: &Version, salt: u64) -> ContentKey {
        let share = [&*self.share, &salt.to_le_bytes()].concat();
        ContentKey::new(&self.host_key, &share, &self.id, version)
    }

    /// The name under which chunks of a version may outlive the mount: it must tell every change, and the number of a
    /// file without a birth time is that of another one some day.
    pub(super) fn kept_as(&self, version: &Version, settled: bool) -> Option<ContentKey> {
        (settled && self.id.birth != 0).then(|| self.at(version, 0))
    }
}

/// Ranges that all ledgers of a mount may hold together: 64 GiB read in order, 4 MiB of memory.
const ALL_RANGES_MAX: usize = 64 * 1024;

/// What the ledgers of one mount hold together, and the disk cache, which may hold the hashes for them.
#[derive(Debug, Default)]
pub(super) struct LedgerBudget {
    ranges: AtomicUsize,
    l2: Option<L2>,
}

impl LedgerBudget {
    /// Of a mount with this disk cache.
    pub(super) fn new(l2: Option<L2>) -> LedgerBudget {
        LedgerBudget { ranges: AtomicUsize::new(0), l2 }
    }
}

/// The ranges handed out of some contents.
struct Ledger {
    ranges: BTreeMap<Range, Proof>,
    budget: Arc<LedgerBudget>,
}

/// What became of a range that is handed out.
#[derive(PartialEq, Eq)]
enum Noted {
    New,
    /// It was handed out before.
    Known,
    /// There is no room for it.
    Full,
}

/// Whether reads may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As far as is known the host's file is of this version.
    Current,
    /// The host's file seems to have changed: it must be asked before anything more is handed out.
    Suspect,
    /// The bytes handed out are not in the host's file any more.
    Stale,
}

/// A range handed out; an [`Extent`] in the order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    start: u64,
    len: u64,
}

impl Range {
    /// The chunks of a range that begins with one.
    pub(super) fn chunks(self) -> impl Iterator<Item = Extent> {
        let whole = Extent::new(self.start, self.len);
        whole
            .blocks(CHUNK_BYTES)
            .filter_map(move |chunk| whole.intersect(&Extent::new(chunk * CHUNK_BYTES, CHUNK_BYTES)))
    }
}

enum Proof {
    /// Being handed out; fingerprinted once the program has it.
    Bytes(Bytes),
    Fingerprint(Fingerprint),
    /// In the disk cache, under the name that the contents have there: whole chunks.
    Kept,
    /// Hashes of its chunks.
    Chunks(Box<[ContentHash]>),
}

/// What was known of some contents when a look at the host began.
pub(super) struct Claims {
    pub(super) version: Version,
    pub(super) settled: bool,
    /// The greatest length that the kernel may know of.
    pub(super) told: ByteLen,
    /// `None` when the contents cannot be verified.
    pub(super) ranges: Option<Vec<(Extent, Fingerprint)>>,
}

/// Bytes on their way to a program, entered in the ledger. Fingerprinted when this drops: reply first.
pub struct Served {
    bytes: Bytes,
    entry: Option<(Arc<Content>, Range)>,
    /// Where the read waited.
    spent: Spent,
}

impl Ledger {
    fn note(&mut self, range: Range, bytes: &Bytes) -> Noted {
        if range.len == 0 || self.ranges.contains_key(&range) {
            return Noted::Known;
        }
        // What is longer than one extent could not be asked about; the kernel's requests are not.
        if self.ranges.len() >= RANGES_MAX || range.len > READ_BYTES_MAX {
            return Noted::Full;
        }
        if self.budget.ranges.fetch_add(1, Relaxed) >= ALL_RANGES_MAX {
            self.budget.ranges.fetch_sub(1, Relaxed);
            return Noted::Full;
        }
        self.ranges.insert(range, Proof::Bytes(bytes.clone()));
        Noted::New
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.budget.ranges.fetch_sub(self.ranges.len(), Relaxed);
    }
}

impl Content {
    pub(super) fn new(
        file: Named,
        key: ContentKey,
        (version, settled): (Version, bool),
        handed_out: HandedOut,
        budget: Arc<LedgerBudget>,
    ) -> Content {
        let ledger = match handed_out {
            HandedOut::Nothing => Some(Ledger { ranges: BTreeMap::new(), budget }),
            HandedOut::Unknown => None,
        };
        let kept_as = file.kept_as(&version, settled);
        let (standing, told) = (Standing::Current, version.size);
        let state = State { standing, key, kept_as, version, settled, told, ledger };
        let gate = tokio::sync::Mutex::new(());
        Content { file, gate, state: Mutex::new(state), current: AtomicBool::new(true) }
    }

    /// The version that reads are of, unless it is in doubt.
    pub fn current(&self) -> Option<Version> {
        let state = self.state.lock();
        (state.standing == Standing::Current).then_some(state.version)
    }

    /// The version that reads are of now.
    pub fn version(&self) -> Version {
        self.state.lock().version
    }

    /// The name of its blocks in memory.
    pub(super) fn key(&self) -> ContentKey {
        self.state.lock().key
    }

    /// The name of its chunks of `version` on the disk, if it is that one now and they may be kept there.
    pub(super) fn kept_as(&self, version: &Version) -> Option<ContentKey> {
        let state = self.state.lock();
        let is_good = state.standing == Standing::Current && state.version == *version;
        state.kept_as.filter(|_| is_good)
    }

    /// Gives the blocks read from here on a name of their own: those of a version that does not tell every change may
    /// be of other bytes. The disk is for those of a version that does.
    pub(super) fn rename(&self, key: ContentKey, (version, settled): (Version, bool)) {
        let mut state = self.state.lock();
        state.key = key;
        state.kept_as = self.file.kept_as(&version, settled && version == state.version);
    }

    /// Whether that version tells every change.
    pub fn is_settled(&self) -> bool {
        self.state.lock().settled
    }

    /// The host's file is said to be of another version: the next read asks before it hands anything out.
    pub fn suspect(&self) {
        let mut state = self.state.lock();
        if state.standing == Standing::Current {
            state.standing = Standing::Suspect;
            self.current.store(false, Relaxed);
        }
    }

    /// The kernel may be told that the file is so long, while these contents are of another version.
    pub fn note_told(&self, size: ByteLen) {
        let mut state = self.state.lock();
        state.told = state.told.max(size);
    }

    /// The host's file holds other bytes now: every read from here on fails.
    pub fn condemn(&self) {
        let mut state = self.state.lock();
        state.standing = Standing::Stale;
        state.ledger = None;
        self.current.store(false, Relaxed);
    }

    /// Whether the bytes handed out are not in the host's file any more.
    pub fn is_stale(&self) -> bool {
        !self.current.load(Relaxed) && self.standing() == Standing::Stale
    }

    pub(super) fn standing(&self) -> Standing {
        self.state.lock().standing
    }

    /// Hands bytes of `version` out, unless the contents have moved on or are in doubt.
    pub(super) fn serve(self: &Arc<Self>, version: &Version, extent: Extent, bytes: Bytes) -> Option<Served> {
        let range = Range { start: extent.start.0, len: bytes.len() as u64 };
        let mut state = self.state.lock();
        if state.standing != Standing::Current || state.version != *version {
            return None;
        }
        let noted = state.ledger.as_mut().map_or(Noted::Known, |ledger| ledger.note(range, &bytes));
        if noted == Noted::Full {
            state.ledger = None;
        }
        let entry = (noted == Noted::New).then(|| (self.clone(), range));
        Some(Served { bytes, entry, spent: Spent::default() })
    }

    /// What the host has to confirm before the contents may move to its version. What the disk cache was to vouch for
    /// must have been proved before.
    pub(super) fn claims(&self) -> Claims {
        let state = self.state.lock();
        let ranges = state.ledger.as_ref().and_then(|ledger| {
            let mut claims = Vec::with_capacity(ledger.ranges.len());
            for (range, proof) in &ledger.ranges {
                let extent = Extent::new(range.start, range.len);
                match proof {
                    Proof::Bytes(bytes) => claims.push((extent, Fingerprint::of(bytes))),
                    Proof::Fingerprint(fingerprint) => claims.push((extent, *fingerprint)),
                    Proof::Chunks(hashes) => {
                        let hashes = hashes.iter().copied().map(Fingerprint::Blake3);
                        claims.extend(range.chunks().zip(hashes));
                    }
                    Proof::Kept => return None,
                }
            }
            Some(claims)
        });
        let told = state.told.max(state.version.size);
        Claims { version: state.version, settled: state.settled, told, ranges }
    }

    /// What the disk cache has to vouch for, and the name under which it has it.
    pub(super) fn kept(&self) -> Vec<(ContentKey, Range)> {
        let state = self.state.lock();
        let (Some(ledger), Some(key)) = (&state.ledger, state.kept_as) else { return Vec::new() };
        let kept = ledger.ranges.iter().filter(|(_, proof)| matches!(proof, Proof::Kept));
        kept.map(|(range, _)| (key, *range)).collect()
    }

    /// The disk cache's hashes of the chunks of a range.
    pub(super) fn prove(&self, range: Range, hashes: Box<[ContentHash]>) {
        self.set_proof(range, Proof::Chunks(hashes));
    }

    /// Ends a look at the host: the contents are of `version` from here on. Nothing was handed out since it began,
    /// since nothing is while they are in doubt.
    pub(crate) fn settle_on(&self, version: Version, settled: bool) {
        let mut state = self.state.lock();
        if state.standing == Standing::Suspect {
            state.standing = Standing::Current;
            state.version = version;
            state.settled = settled;
            state.kept_as = self.file.kept_as(&version, settled);
            self.current.store(true, Relaxed);
        }
    }

    /// Leaves the proof to the disk cache where that has all of the range: it hashed the same bytes already.
    fn seal_as_kept(&self, range: Range) -> bool {
        let mut state = self.state.lock();
        let (end, size) = (range.start + range.len, state.version.size.0);
        let is_whole =
            range.start.is_multiple_of(CHUNK_BYTES) && (end.is_multiple_of(CHUNK_BYTES) || end == size);
        // A look that is under way has asked for what is kept already.
        let (true, Standing::Current, Some(key)) = (is_whole, state.standing, state.kept_as) else {
            return false;
        };
        let Some(ledger) = &mut state.ledger else { return true };
        let Some(disk) = &ledger.budget.l2 else { return false };
        let is_kept = disk.covered(key, Extent::new(range.start, range.len)) == range.len;
        if is_kept && let Some(proof) = ledger.ranges.get_mut(&range) {
            *proof = Proof::Kept;
        }
        is_kept
    }

    fn set_proof(&self, range: Range, proved: Proof) {
        if let Some(proof) =
            self.state.lock().ledger.as_mut().and_then(|ledger| ledger.ranges.get_mut(&range))
        {
            *proof = proved;
        }
    }
}

impl Served {
    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Where the read that they answer waited.
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// Says where it waited.
    pub(super) fn waited(&mut self, spent: Spent) {
        self.spent = spent;
    }
}

impl Deref for Served {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes served", self.bytes.len())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some((content, range)) = self.entry.take()
            && !content.seal_as_kept(range)
        {
            content.set_proof(range, Proof::Fingerprint(Fingerprint::of(&self.bytes)));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
