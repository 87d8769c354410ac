//! What the mount knows of directories that it holds a lease on: what their names lead to, and their listings.
//!
//! A plain state machine. A directory's *epoch* moves with each push about it: what the host said under an older epoch,
//! or before the lease was granted, is not kept. What is not known for certain is [`Known::Unknown`], never absent.

mod folder;
mod listing;
mod recent;
mod shown;

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use wire::{Attr, Change, Entry, FileId, FileKind, Grant, LeaseId, Name, limits};

use super::{attr::LEASED_TTL, inode::NodeId};
use folder::Listed;
pub use listing::FolderListing;
use recent::Recent;
pub use shown::{KernelListing, ShownFrom};

/// Leases that a mount holds or asks for.
pub const LEASES_MAX: usize = 16_384;

/// Bytes of names and listings of all directories.
pub const BYTES_MAX: usize = 16 << 20;

/// Names of a directory that changed since it was listed; with more of them the listing is of no use.
const DIRTY_MAX: usize = 1024;

/// Look-ups in a directory that memory could not answer, in any order, before its listing is fetched.
const MISSES_MAX: u32 = 4;

/// How long a directory is not asked for after the host said that it watches as many as it may.
const EXHAUSTED: Duration = Duration::from_secs(30);
/// The same after it said that it cannot see changes there; a share may be mounted otherwise later.
const UNWATCHABLE: Duration = Duration::from_secs(600);
/// The same after a failure.
const FAILED: Duration = Duration::from_secs(1);

/// What one name takes that is known singly, its bytes apart.
const NAME_BYTES: usize = size_of::<(Name, Option<Attr>)>() + 32;

/// What a name in a leased directory leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// This file. The attributes of a directory, its id and kind apart, are those of when its name was looked at: they
    /// hold under a lease of its own alone.
    Present(Attr),
    /// Nothing, as the host said.
    Absent,
    /// Memory cannot tell. So for files with several names, which change without their directory's knowledge.
    Unknown,
}

/// When something was asked of the host: its answer may be kept if the lease still holds and no push came between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    lease: LeaseId,
    epoch: u64,
}

/// A listing being taken in, page by page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taking(u64);

/// A page to be fetched because programs look names up there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What the page belongs to.
    pub taking: Taking,
    /// The host's cookie of it.
    pub cookie: u64,
}

/// What a push means for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// The name.
    pub name: Name,
    /// The file that it led to, where that was known.
    pub was: Option<FileId>,
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldersStats {
    /// Leases.
    pub leases: u64,
    /// Complete listings.
    pub listings: u64,
    /// Bytes of names and listings.
    pub bytes: u64,
    /// Directories that the host does not watch because it watches as many as it may.
    pub exhausted: u64,
    /// Directories that the host cannot watch.
    pub unwatchable: u64,
    /// Directories listed before they were opened.
    pub ahead: AheadStats,
}

/// Directories listed before anybody opened them, since the mount began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AheadStats {
    /// All of them.
    pub listed: u64,
    /// Opened then.
    pub used: u64,
    /// Forgotten, or in doubt, before they were.
    pub wasted: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Asked,
    Held,
    /// Not to be asked for again before.
    Refused {
        grant: Option<Grant>,
        until: Instant,
    },
}

struct Folder {
    lease: LeaseId,
    phase: Phase,
    epoch: u64,
    used: Cell<u64>,
    /// The directory's own attributes.
    attr: Option<Attr>,
    names: HashMap<Name, Option<Attr>>,
    listing: Option<Listed>,
    taken: Option<Taken>,
    recent: Recent,
    misses: u32,
    fetching: bool,
    /// Its listing does not fit.
    too_large: bool,
    /// Listed before anybody opened it, and not opened since.
    is_ahead: bool,
    bytes: usize,
    /// Since when something is known; nothing of it is older.
    since: Instant,
}

/// The first pages of a listing.
struct Taken {
    taking: Taking,
    asked: LeaseId,
    next: u64,
    entries: FolderListing,
    dirty: HashSet<Name>,
    /// When the kernel began to be given it, to keep.
    shown: Option<Instant>,
}

/// The leased directories.
#[derive(Default)]
pub struct Folders {
    folders: HashMap<NodeId, Folder>,
    by_lease: HashMap<LeaseId, NodeId>,
    lease_last: u64,
    taking_last: u64,
    clock: Cell<u64>,
    bytes: usize,
    let_go: Vec<(NodeId, Option<LeaseId>)>,
    ahead: AheadStats,
}

impl Folders {
    /// What a name leads to; certain while the lease holds.
    pub fn find(&self, dir: NodeId, name: &Name) -> Known {
        match self.held(dir).and_then(|folder| folder.find(name)) {
            Some(Some(attr)) if is_covered(&attr) => Known::Present(attr),
            None | Some(Some(_)) => Known::Unknown,
            Some(None) => Known::Absent,
        }
    }

    /// A directory's entries, if they are known whole and as they are now.
    pub fn listing(&self, dir: NodeId) -> Option<Arc<FolderListing>> {
        let folder = self.held(dir)?;
        let listed = folder.listing.as_ref().filter(|listed| listed.dirty.is_empty())?;
        Some(listed.entries.clone())
    }

    /// A leased directory's own attributes.
    pub fn attr(&self, dir: NodeId) -> Option<Attr> {
        self.held(dir)?.attr
    }

    /// Whether there is a lease on a directory.
    pub fn is_held(&self, dir: NodeId) -> bool {
        self.held(dir).is_some()
    }

    /// Whether something was pushed of a name that is not known anew yet.
    pub fn is_doubted(&self, dir: NodeId, name: &Name) -> bool {
        let Some(folder) = self.held(dir).filter(|folder| !folder.names.contains_key(name)) else {
            return false;
        };
        folder.listing.as_ref().is_some_and(|listed| listed.dirty.contains(name))
            || folder.taken.as_ref().is_some_and(|taken| taken.dirty.contains(name))
    }

    /// The directories under lease.
    pub fn dirs(&self) -> impl Iterator<Item = NodeId> {
        self.folders.iter().filter(|(_, folder)| folder.phase == Phase::Held).map(|(dir, _)| *dir)
    }

    /// How much is held.
    pub fn stats(&self) -> FoldersStats {
        let mut stats =
            FoldersStats { bytes: self.bytes as u64, ahead: self.ahead, ..FoldersStats::default() };
        for folder in self.folders.values() {
            match folder.phase {
                Phase::Held => stats.leases += 1,
                Phase::Refused { grant: Some(Grant::Exhausted), .. } => stats.exhausted += 1,
                Phase::Refused { grant: Some(Grant::Unwatchable), .. } => stats.unwatchable += 1,
                Phase::Asked | Phase::Refused { .. } => {}
            }
            stats.listings += u64::from(folder.listing.is_some());
        }
        stats
    }

    /// A directory is being listed that nobody opened yet: it goes before those that somebody did.
    pub fn mark_ahead(&mut self, dir: NodeId) {
        if let Some(folder) = self.folders.get_mut(&dir)
            && !std::mem::replace(&mut folder.is_ahead, true)
        {
            self.ahead.listed += 1;
        }
    }

    /// Somebody opened a directory, from its listing here.
    pub fn meet(&mut self, dir: NodeId) {
        if self.folders.get_mut(&dir).is_some_and(|folder| std::mem::take(&mut folder.is_ahead)) {
            self.ahead.used += 1;
        }
    }

    /// A number for a lease that is somebody else's affair.
    pub fn number(&mut self) -> LeaseId {
        self.lease_last += 1;
        LeaseId(self.lease_last)
    }

    /// A number to ask for a lease on `dir` with; `None` where there is one, or none is to be had now. The caller keeps
    /// the directory's node until it comes out of [`Folders::take_let_go`].
    pub fn begin(&mut self, dir: NodeId, now: Instant) -> Option<LeaseId> {
        match self.folders.get(&dir).map(|folder| folder.phase) {
            Some(Phase::Refused { until, .. }) if now >= until => self.let_go(dir),
            Some(_) => return None,
            None => {}
        }
        self.make_room_for_one();
        let lease = self.number();
        let folder = Folder {
            lease,
            phase: Phase::Asked,
            epoch: 0,
            used: Cell::new(self.tick()),
            attr: None,
            names: HashMap::new(),
            listing: None,
            taken: None,
            recent: Recent::default(),
            misses: 0,
            fetching: false,
            too_large: false,
            is_ahead: false,
            bytes: 0,
            since: now,
        };
        self.folders.insert(dir, folder);
        self.by_lease.insert(lease, dir);
        Some(lease)
    }

    /// What the host answered, with the directory's attributes as they were after the watch was set. A lease that is not
    /// wanted any more comes out of [`Folders::take_let_go`].
    pub fn granted(&mut self, lease: LeaseId, grant: Grant, attr: Attr, now: Instant) {
        let Some(folder) = self.by_lease.get(&lease).and_then(|dir| self.folders.get_mut(dir)) else {
            // Taken back meanwhile; the host may hold it all the same.
            if grant == Grant::Granted && self.let_go.len() < LEASES_MAX {
                self.let_go.push((NodeId::ROOT, Some(lease)));
            }
            return;
        };
        if folder.phase != Phase::Asked {
            return;
        }
        let until = match grant {
            Grant::Granted => {
                folder.phase = Phase::Held;
                // A push overtook the answer.
                folder.attr = (folder.epoch == 0).then_some(attr);
                return;
            }
            Grant::Exhausted => now + EXHAUSTED,
            Grant::Unwatchable => now + UNWATCHABLE,
        };
        folder.phase = Phase::Refused { grant: Some(grant), until };
    }

    /// The host did not answer.
    pub fn failed(&mut self, lease: LeaseId, now: Instant) {
        if let Some(folder) = self.by_lease.get(&lease).and_then(|dir| self.folders.get_mut(dir)) {
            folder.phase = Phase::Refused { grant: None, until: now + FAILED };
        }
    }

    /// Forgets a lease that is not asked for after all.
    pub fn abandon(&mut self, lease: LeaseId) {
        if let Some(dir) = self.by_lease.get(&lease).copied() {
            self.drop_folder(dir);
        }
    }

    /// Forgets what was said longer than [`LEASED_TTL`] ago: a push tells of all names, but not of all that happens to a
    /// file (writes through a mapping, or through a name elsewhere).
    pub fn age(&mut self, now: Instant) {
        for folder in self.folders.values_mut() {
            if folder.since + LEASED_TTL <= now {
                folder.since = now;
                folder.attr = None;
                self.bytes -= folder.clear();
                self.ahead.wasted += u64::from(std::mem::take(&mut folder.is_ahead));
            }
        }
    }

    /// What to remember of a question about names in `dir`, or about itself; `None` without a lease.
    pub fn asking(&self, dir: NodeId) -> Option<Asked> {
        let folder = self.held(dir)?;
        Some(Asked { lease: folder.lease, epoch: folder.epoch })
    }

    /// Takes in what the host said of a name, if nothing came between; whether it did not.
    pub fn learn(&mut self, asked: Option<Asked>, name: &Name, attr: Option<Attr>) -> bool {
        let Some((dir, folder)) = self.current(asked) else { return false };
        let cost = NAME_BYTES + name.as_bytes().len();
        if attr.as_ref().is_none_or(is_covered) {
            if folder.names.insert(name.clone(), attr).is_none() {
                folder.bytes += cost;
                self.bytes += cost;
            }
        } else if folder.names.remove(name).is_some() {
            folder.bytes -= cost;
            self.bytes -= cost;
        }
        self.make_room(dir);
        true
    }

    /// The same of the directory itself.
    pub fn learn_dir(&mut self, asked: Option<Asked>, attr: Attr) -> bool {
        let Some((_, folder)) = self.current(asked) else { return false };
        folder.attr = Some(attr);
        true
    }

    /// Counts a look-up that memory could not answer; the page to fetch for those to come.
    pub fn miss(&mut self, dir: NodeId) -> Option<Wanted> {
        let taking = self.taking_last + 1;
        let folder = self.folders.get_mut(&dir).filter(|folder| folder.phase == Phase::Held)?;
        folder.misses += 1;
        if folder.fetching || folder.too_large || folder.listing.is_some() {
            return None;
        }
        let wanted = match &folder.taken {
            Some(taken) => Wanted { taking: taken.taking, cookie: taken.next },
            None if folder.misses < MISSES_MAX => return None,
            None => {
                self.taking_last = taking;
                folder.take_from_start(Taking(taking));
                Wanted { taking: Taking(taking), cookie: 0 }
            }
        };
        (folder.misses, folder.fetching) = (0, true);
        Some(wanted)
    }

    /// The page that follows one fetched for [`Folders::miss`], if somebody still looks there.
    pub fn fetched(&mut self, dir: NodeId, taking: Taking) -> Option<Wanted> {
        let folder = self.folders.get_mut(&dir)?;
        let next = folder.taken.as_ref().filter(|taken| taken.taking == taking).map(|taken| taken.next);
        // A program lists it from its start meanwhile, or the host said the same page again.
        folder.fetching = next.is_some() && folder.misses > 0;
        folder.misses = 0;
        let cookie = next.filter(|_| folder.fetching)?;
        Some(Wanted { taking, cookie })
    }

    /// A page did not come: the listing begins anew when it is wanted again.
    pub fn give_up(&mut self, dir: NodeId, taking: Taking) {
        let Some(folder) = self.folders.get_mut(&dir) else { return };
        if folder.taken.as_ref().is_some_and(|taken| taken.taking == taking) {
            self.bytes -= folder.drop_taken();
            folder.fetching = false;
        }
    }

    /// Begins to take a listing in from its first page, which is asked for after this; `None` without a lease.
    pub fn take_listing(&mut self, dir: NodeId) -> Option<Taking> {
        let folder = self.folders.get_mut(&dir).filter(|folder| folder.phase == Phase::Held)?;
        if folder.too_large {
            return None;
        }
        // Who opens it could not use what was listed before.
        self.ahead.wasted += u64::from(std::mem::take(&mut folder.is_ahead));
        self.taking_last += 1;
        let taking = Taking(self.taking_last);
        self.bytes -= folder.drop_taken();
        folder.take_from_start(taking);
        Some(taking)
    }

    /// Begins to take in the listing that a lease was asked for with: at its first page, before the grant.
    pub fn take_with_lease(&mut self, lease: LeaseId) -> Option<Taking> {
        let folder = self.by_lease.get(&lease).and_then(|dir| self.folders.get_mut(dir))?;
        self.taking_last += 1;
        let taking = Taking(self.taking_last);
        folder.take_from_start(taking);
        Some(taking)
    }

    /// Takes a page in, which began at `cookie`; pages out of order are left out.
    pub fn add_page(&mut self, dir: NodeId, taking: Taking, (cookie, entries, end): (u64, &[Entry], bool)) {
        let Some(folder) = self.folders.get_mut(&dir).filter(|folder| folder.phase == Phase::Held) else {
            return;
        };
        let Some(taken) = &mut folder.taken else { return };
        if taken.taking != taking || taken.next != cookie || taken.asked != folder.lease {
            return;
        }
        let before = taken.entries.bytes();
        for entry in entries {
            taken.entries.push(entry);
        }
        taken.next = entries.last().map_or(cookie, |last| last.cookie);
        if end {
            taken.entries.shrink();
        }
        let after = taken.entries.bytes();
        folder.bytes = folder.bytes + after - before;
        self.bytes = self.bytes + after - before;
        if end {
            self.bytes -= folder.complete();
        }
        self.make_room(dir);
    }

    /// Takes a push about names in; which directory it is, and what is dirty now.
    pub fn changed(&mut self, lease: LeaseId, changes: &[Change]) -> Option<(NodeId, Vec<Dirty>)> {
        let dir = *self.by_lease.get(&lease)?;
        let folder = self.folders.get_mut(&dir)?;
        folder.epoch += 1;
        folder.attr = None;
        let mut dirty = Vec::with_capacity(changes.len());
        for change in changes {
            let was = folder.find(&change.name).flatten().map(|attr| attr.id);
            dirty.push(Dirty { name: change.name.clone(), was });
            self.bytes -= folder.doubt(&change.name);
        }
        Some((dir, dirty))
    }

    /// The host says otherwise of a name than memory does, before its push says so: memory cannot tell any more.
    pub fn doubt(&mut self, dir: NodeId, name: &Name) {
        if let Some(folder) = self.folders.get_mut(&dir) {
            self.bytes -= folder.doubt(name);
        }
    }

    /// Forgets a directory whose node is gone; its lease comes out of [`Folders::take_let_go`] with the root, which stays.
    pub fn forget(&mut self, dir: NodeId) {
        if let Some(folder) = self.drop_folder(dir)
            && folder.is_at_the_host()
        {
            self.let_go.push((NodeId::ROOT, Some(folder.lease)));
        }
    }

    /// Whether a directory is known here, under lease or not: its node is kept for that.
    pub fn contains(&self, dir: NodeId) -> bool {
        self.folders.contains_key(&dir)
    }

    /// Takes back leases that hold no more; their directories. They come out of [`Folders::take_let_go`] too.
    pub fn revoked(&mut self, leases: &[LeaseId]) -> Vec<NodeId> {
        let dirs: Vec<NodeId> = leases.iter().filter_map(|lease| self.by_lease.get(lease).copied()).collect();
        for &dir in &dirs {
            self.drop_folder(dir);
            self.let_go.push((dir, None));
        }
        dirs
    }

    /// Takes back all leases; their directories. They come out of [`Folders::take_let_go`] too.
    pub fn revoked_all(&mut self) -> Vec<NodeId> {
        let leases: Vec<LeaseId> = self.by_lease.keys().copied().collect();
        self.revoked(&leases)
    }

    /// Directories that are not in here any more, once each, for the caller to let their nodes go; and leases to be given
    /// back, each with its directory, which the kernel is still told of under the lease. A lease whose directory is gone
    /// already comes with the root, which stays.
    pub fn take_let_go(&mut self) -> Vec<(NodeId, Option<LeaseId>)> {
        std::mem::take(&mut self.let_go)
    }

    fn held(&self, dir: NodeId) -> Option<&Folder> {
        let folder = self.folders.get(&dir).filter(|folder| folder.phase == Phase::Held)?;
        folder.used.set(self.tick());
        Some(folder)
    }

    fn current(&mut self, asked: Option<Asked>) -> Option<(NodeId, &mut Folder)> {
        let asked = asked?;
        let dir = *self.by_lease.get(&asked.lease)?;
        let folder = self.folders.get_mut(&dir)?;
        (folder.phase == Phase::Held && folder.epoch == asked.epoch).then_some((dir, folder))
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// Lets the directories go that were not used for longest, many at once: finding them takes a look at all.
    fn make_room_for_one(&mut self) {
        if self.folders.len() < LEASES_MAX {
            return;
        }
        for dir in self.least_used(|_| true).into_iter().take(limits::RELEASE_MAX) {
            self.let_go(dir);
        }
    }

    /// Drops what is known of the directories that were not used for longest, and of `last` where that is not enough.
    fn make_room(&mut self, last: NodeId) {
        if self.bytes <= BYTES_MAX {
            return;
        }
        for dir in self.least_used(|folder| folder.bytes > 0) {
            if self.bytes <= BYTES_MAX / 8 * 7 {
                return;
            }
            if let Some(folder) = self.folders.get_mut(&dir).filter(|_| dir != last) {
                self.bytes -= folder.clear();
                self.ahead.wasted += u64::from(std::mem::take(&mut folder.is_ahead));
            }
        }
        if self.bytes > BYTES_MAX
            && let Some(folder) = self.folders.get_mut(&last)
        {
            folder.too_large = folder.listing.is_some() || folder.taken.is_some();
            self.bytes -= folder.clear();
            self.ahead.wasted += u64::from(std::mem::take(&mut folder.is_ahead));
        }
    }

    /// Directories but the root: those that nobody opened yet, then the least recently used first.
    fn least_used(&self, wanted: impl Fn(&Folder) -> bool) -> Vec<NodeId> {
        let all = self.folders.iter().filter(|(dir, folder)| **dir != NodeId::ROOT && wanted(folder));
        let mut all: Vec<_> = all.map(|(dir, folder)| (!folder.is_ahead, folder.used.get(), *dir)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, _, dir)| dir).collect()
    }

    fn let_go(&mut self, dir: NodeId) {
        let Some(folder) = self.drop_folder(dir) else { return };
        self.let_go.push((dir, folder.is_at_the_host().then_some(folder.lease)));
    }

    fn drop_folder(&mut self, dir: NodeId) -> Option<Folder> {
        let folder = self.folders.remove(&dir)?;
        self.by_lease.remove(&folder.lease);
        self.bytes -= folder.bytes;
        self.ahead.wasted += u64::from(folder.is_ahead);
        Some(folder)
    }
}

/// Whether the watch of a directory sees all that happens to a file in it.
fn is_covered(attr: &Attr) -> bool {
    attr.links <= 1 || attr.kind == FileKind::Directory
}

#[cfg(test)]
mod tests;
