//! Leases at work: asked for where names are looked up, given back, taken back; and what a push means for the kernel.
//!
//! The order that keeps all true: a lease's number is known before it is asked for, a push takes what memory knows
//! before the kernel is told, and the kernel is told after it was answered what memory knew before (it holds the folder's
//! lock while it waits for an answer about a name).

use std::{sync::Arc, sync::Weak, time::Duration};

use tokio::time::Instant;
use transport::{Pushed, Pushes};
use wire::{Attr, Change, Changes, FileKind, Grant, LeaseId, Name, Push, Reply, Request, limits};

use super::{
    Inner, State, Vfs,
    attr::{LEASED_TTL, Source, Ttl},
    dir::FIRST_PAGE_BYTES,
    folders::{Asked, FoldersStats, Known, Taking, Wanted},
    inode::NodeId,
    listing::{Fetched, PageWanted},
    unexpected,
};

/// How long the host may take to watch a directory or to let it go: nobody waits for it.
const LEASE_DEADLINE: Duration = Duration::from_secs(10);

/// Leases on directories that the kernel forgot are given back many at once.
const RELEASE_AT: usize = 256;

/// With more directories gone at once than this, the kernel is told to ask for everything again.
const PRUNED_MAX: usize = 64;

/// What the kernel must not answer from its memory any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// What this name leads to, or that it leads nowhere; of a directory, all below it.
    Name(NodeId, Name),
    /// A node's attributes.
    Attr(NodeId),
    /// A directory's attributes, and the listing that the kernel keeps of it.
    Listing(NodeId),
}

/// What waits for the state's lock to be free: the kernel is told of it, and the host.
#[derive(Default)]
#[must_use]
pub(super) struct Aftermath {
    doubts: Vec<Doubt>,
    /// Doubt everything, these nodes' attributes too.
    everything: bool,
    released: Vec<LeaseId>,
}

impl Aftermath {
    pub(super) fn and(&mut self, other: Aftermath) {
        self.doubts.extend(other.doubts);
        self.everything |= other.everything;
        self.released.extend(other.released);
    }
}

/// A listing that is about to be asked for.
pub(super) struct Begun {
    /// The lease to ask for with it.
    pub(super) lease: Option<(LeaseId, Aftermath)>,
    pub(super) asked: Option<Asked>,
    pub(super) taking: Option<Taking>,
    pub(super) bytes_max: u32,
}

impl Vfs {
    /// How much is known under leases.
    pub fn folders(&self) -> FoldersStats {
        self.0.state.lock().folders.stats()
    }

    /// Forgets what the host said long ago. To be called now and then.
    pub fn age_folders(&self, now: Instant) {
        self.0.state.lock().folders.age(now);
    }

    /// The nodes that somebody may look at past their names: open ones, and the directories under lease.
    pub fn in_use(&self) -> Vec<NodeId> {
        let state = self.0.state.lock();
        let files = state.handles.all_files().map(|file| file.node);
        let dirs = state.handles.all_dirs().map(|dir| dir.node);
        files.chain(dirs).chain(state.folders.dirs()).collect()
    }

    /// The same for as long as the mount lives, without keeping it.
    pub fn in_use_later(&self) -> impl Fn() -> Vec<NodeId> + Send + Sync + 'static {
        let mount: Weak<Inner> = Arc::downgrade(&self.0);
        move || mount.upgrade().map(|mount| Vfs(mount).in_use()).unwrap_or_default()
    }

    /// Takes in what the host says of its own accord, until the client is closed. Holds the mount only while it works.
    pub(super) fn listen(&self, pushes: Pushes) {
        let mount = Arc::downgrade(&self.0);
        self.0.lane.spawn(async move {
            while let Some(pushed) = pushes.next().await {
                let Some(mount) = mount.upgrade() else { return };
                Vfs(mount).take_push(pushed);
            }
        });
    }

    fn take_push(&self, pushed: Pushed) {
        if self.0.watchers.receiver_count() > 0 {
            // They may all have left since.
            let _ = self.0.watchers.send(pushed.clone());
        }
        let mut state = self.0.state.lock();
        let after = match pushed {
            Pushed::Push(Push::Changed { lease, changes }) => {
                self.0.stats.pushed_changes.add(changes.len().max(1) as u64);
                state.changed(lease, &changes)
            }
            Pushed::Push(Push::Revoked(leases)) => state.revoked(&leases),
            Pushed::Push(Push::RevokedAll) | Pushed::SessionLost => state.revoked_all(),
            Pushed::SessionBegun => Aftermath::default(),
        };
        drop(state);
        self.follow(after);
    }

    /// Tells the kernel and the host. Not to be called with the state's lock held.
    pub(super) fn follow(&self, after: Aftermath) {
        if let Some(kernel) = self.0.kernel.get() {
            if after.everything {
                kernel.doubt_everything(after.doubts);
            } else {
                for doubt in after.doubts {
                    kernel.doubt(doubt);
                }
            }
        }
        self.give_back(&after.released);
    }

    /// Gives leases back, behind whatever comes.
    pub(super) fn give_back(&self, leases: &[LeaseId]) {
        for leases in leases.chunks(limits::RELEASE_MAX) {
            let (vfs, request) = (self.clone(), Request::Release(Vec::from(leases)));
            self.0.lane.spawn(async move {
                // A host that was not told watches for nobody until the session ends.
                let _ = vfs.0.call(request, Instant::now() + LEASE_DEADLINE).await;
            });
        }
    }

    /// Asks for a lease on a directory, if there is none and one may be had; behind whatever is answered now.
    pub(super) fn want_lease(&self, dir: NodeId) {
        let Some((lease, after)) = self.0.state.lock().begin_lease(dir) else { return };
        self.follow(after);
        let vfs = self.clone();
        self.0.lane.spawn(async move { vfs.ask_for_lease(dir, lease).await });
    }

    async fn ask_for_lease(&self, dir: NodeId, lease: LeaseId) {
        let asking = Asking::new(self, dir, lease);
        let Ok((target, _)) = self.0.target(dir) else { return };
        let request = Request::Lease { target, lease };
        match self.0.call_node(request, Instant::now() + LEASE_DEADLINE).await {
            Ok(Reply::Leased { dir, grant }) => asking.answered(dir, grant),
            Ok(other) => tracing::debug!(error = %unexpected(&other), "no lease"),
            Err(error) => tracing::debug!(%error, "no lease"),
        }
    }

    /// Counts a look-up that memory could not answer, and fetches a page of the directory's listing behind it if there
    /// are many.
    pub(super) fn miss(&self, dir: NodeId) {
        if let Some(wanted) = self.0.state.lock().folders.miss(dir) {
            let vfs = self.clone();
            self.0.lane.spawn(async move { vfs.fetch_for_lookups(dir, wanted).await });
        }
    }

    async fn fetch_for_lookups(&self, dir: NodeId, mut wanted: Wanted) {
        loop {
            let page = match self.0.target(dir) {
                Ok((target, _)) => {
                    let deadline = Instant::now() + LEASE_DEADLINE;
                    self.ask_for_page(target, PageWanted::at(wanted.cookie), deadline).await
                }
                Err(error) => Err(error),
            };
            let mut state = self.0.state.lock();
            match page {
                Ok(Fetched { page, is_of_host: true, .. }) => {
                    let page = (wanted.cookie, page.entries.as_slice(), page.end);
                    state.folders.add_page(dir, wanted.taking, page);
                }
                Ok(_) | Err(_) => {
                    state.folders.give_up(dir, wanted.taking);
                }
            }
            match state.folders.fetched(dir, wanted.taking) {
                Some(next) => wanted = next,
                None => return,
            }
        }
    }

    /// Takes in a page that a program's listing brought.
    pub(super) fn keep_page(&self, dir: NodeId, taking: Taking, page: &super::dir::Page) {
        let page = (page.start, page.entries.as_slice(), page.end);
        self.0.state.lock().folders.add_page(dir, taking, page);
    }
}

/// A lease that is being asked for. Dropped without an answer it is not there, and is given back in case that it is.
pub(super) struct Asking<'a> {
    vfs: &'a Vfs,
    dir: NodeId,
    lease: LeaseId,
    answer: Option<(Attr, Grant)>,
}

impl Asking<'_> {
    pub(super) fn new(vfs: &Vfs, dir: NodeId, lease: LeaseId) -> Asking<'_> {
        Asking { vfs, dir, lease, answer: None }
    }

    pub(super) fn answered(mut self, attr: Attr, grant: Grant) {
        self.answer = Some((attr, grant));
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let after = self.vfs.0.state.lock().end_lease((self.dir, self.lease), self.answer);
        self.vfs.follow(after);
    }
}

impl State {
    /// How long what is told of a node holds.
    pub(super) fn ttl(&self, node: NodeId, attr: &Attr, source: Source) -> Ttl {
        let is_dir = attr.kind == FileKind::Directory;
        let own = if is_dir && self.folders.attr(node) == Some(*attr) {
            self.leased_ttl
        } else if source == Source::Host {
            Ttl::UNLEASED.attr
        } else {
            Duration::ZERO
        };
        if self.nodes.is_share_root(node) {
            return Ttl { entry: Ttl::UNLEASED.entry, attr: own };
        }
        let (Ok(parent), Some(name)) = (self.nodes.parent(node), self.nodes.name(node)) else {
            return Ttl::NONE;
        };
        match self.folders.find(parent, &name) {
            Known::Present(known) if known.id == attr.id => {
                let attr = match (is_dir, known == *attr) {
                    (true, _) => own,
                    (false, true) => self.leased_ttl,
                    (false, false) => Duration::ZERO,
                };
                Ttl { entry: self.leased_ttl, attr }
            }
            Known::Present(_) | Known::Absent => Ttl::NONE,
            Known::Unknown if source == Source::Memory || self.folders.is_doubted(parent, &name) => {
                Ttl { entry: Duration::ZERO, attr: if is_dir { own } else { Duration::ZERO } }
            }
            Known::Unknown => Ttl { entry: Ttl::UNLEASED.entry, attr: own },
        }
    }

    /// The attributes of a node as known under a lease: its own, or that of the directory it is in.
    pub(super) fn leased_attr(&self, node: NodeId) -> Option<Attr> {
        let (id, kind) = self.nodes.file(node).ok()?;
        if kind == FileKind::Directory {
            return self.folders.attr(node).filter(|attr| id.is_none_or(|id| id == attr.id));
        }
        match self.folders.find(self.nodes.parent(node).ok()?, &self.nodes.name(node)?) {
            Known::Present(attr) if Some(attr.id) == id && attr.kind == kind => Some(attr),
            Known::Present(_) | Known::Absent | Known::Unknown => None,
        }
    }

    /// Whether a file changed lately, by its name: then a lease does not tell surely enough what an open finds.
    pub(super) fn changed_lately(&self, node: NodeId, now: Instant) -> bool {
        let Ok(parent) = self.nodes.parent(node) else { return true };
        self.folders.has_changes(parent)
            && self.nodes.name(node).is_none_or(|name| self.folders.changed_lately(parent, &name, now))
    }

    /// Whether a node's attributes are known under a lease when they are known at all: nothing older will do.
    pub(super) fn is_under_lease(&self, node: NodeId) -> bool {
        let Ok((_, kind)) = self.nodes.file(node) else { return false };
        let dir = if kind == FileKind::Directory { Ok(node) } else { self.nodes.parent(node) };
        let has_names =
            kind != FileKind::Directory && self.told.last(node).is_some_and(|attr| attr.links > 1);
        !has_names && dir.is_ok_and(|dir| self.folders.is_held(dir))
    }

    pub(super) fn begin_lease(&mut self, dir: NodeId) -> Option<(LeaseId, Aftermath)> {
        let lease = self.folders.begin(dir, Instant::now())?;
        // Before those go that had to make room: it may be among them, refused before.
        let is_pinned = self.nodes.pin(dir).is_ok();
        let mut after = Aftermath::default();
        self.let_go(&mut after);
        if !is_pinned {
            self.folders.abandon(lease);
            return None;
        }
        Some((lease, after))
    }

    /// Begins to take in a directory's listing, with a lease if it has none.
    pub(super) fn begin_listing(&mut self, dir: NodeId) -> Begun {
        let lease = self.begin_lease(dir);
        let taking = match &lease {
            Some((lease, _)) => self.folders.take_with_lease(*lease),
            None => self.folders.take_listing(dir),
        };
        Begun { lease, asked: self.folders.asking(dir), taking, bytes_max: FIRST_PAGE_BYTES }
    }

    fn end_lease(&mut self, (dir, lease): (NodeId, LeaseId), answer: Option<(Attr, Grant)>) -> Aftermath {
        let expected = self.nodes.file(dir).ok().and_then(|(id, _)| id);
        match answer {
            // Of another directory by that name, a lease is of no use.
            Some((attr, grant)) if expected.is_none_or(|id| id == attr.id) => {
                self.folders.granted(lease, grant, attr, Instant::now());
            }
            _ => self.folders.failed(lease, Instant::now()),
        }
        // The kernel may have forgotten it while the lease was asked for.
        let mut after = self.let_forgotten_go(dir, None);
        self.let_go(&mut after);
        after
    }

    fn changed(&mut self, lease: LeaseId, changes: &[Change]) -> Aftermath {
        let mut after = Aftermath::default();
        let Some((dir, dirty)) = self.folders.changed(lease, changes) else { return after };
        self.folders.note_changes(dir, changes, Instant::now());
        let share = self.nodes.share(dir);
        let node_of = |id| share.and_then(|share| self.nodes.inode(share, &id)).map(NodeId);
        let mut attrs = Vec::with_capacity(changes.len());
        self.told.forget(dir);
        after.doubts.push(Doubt::Listing(dir));
        for (change, dirty) in changes.iter().zip(dirty) {
            let node = dirty.was.and_then(node_of);
            let moved = change.what.bits() & (Changes::CREATED | Changes::REMOVED).bits() != 0;
            if moved || node.is_none() {
                after.doubts.push(Doubt::Name(dir, dirty.name));
            }
            attrs.extend(node);
            // Under its other names too, in whatever directory memory knows it.
            let linked = change.linked.and_then(node_of);
            if let Some((parent, name)) =
                linked.and_then(|node| self.nodes.parent(node).ok().zip(self.nodes.name(node)))
            {
                self.folders.doubt(parent, &name);
            }
            attrs.extend(linked);
        }
        // Those that memory knows no more by their names, but somebody holds open.
        let named = |node: NodeId| {
            let name = self.nodes.name(node).filter(|_| self.nodes.parent(node) == Ok(dir))?;
            changes.iter().find(|change| change.name == name)
        };
        for file in self.handles.all_files() {
            let Some(change) = named(file.node) else { continue };
            attrs.push(file.node);
            if change.what.contains(Changes::CONTENT) {
                file.reader.content().suspect();
            }
        }
        for node in attrs {
            self.told.forget(node);
            after.doubts.push(Doubt::Attr(node));
        }
        after
    }

    fn revoked(&mut self, leases: &[LeaseId]) -> Aftermath {
        let mut after = Aftermath::default();
        for dir in self.folders.revoked(leases) {
            self.prune(dir, &mut after);
        }
        self.let_go(&mut after);
        after
    }

    fn revoked_all(&mut self) -> Aftermath {
        let mut after = Aftermath { everything: true, ..Aftermath::default() };
        let ahead = self.walks.clear();
        after.and(self.unpin_all(ahead));
        after.doubts.extend(self.folders.revoked_all().into_iter().map(Doubt::Listing));
        self.let_go(&mut after);
        after
    }

    /// The kernel forgets what it was told under a lease on `dir`.
    fn prune(&mut self, dir: NodeId, after: &mut Aftermath) {
        self.told.forget(dir);
        after.doubts.push(Doubt::Listing(dir));
        match (self.nodes.parent(dir), self.nodes.name(dir)) {
            (Ok(parent), Some(name)) if dir != NodeId::ROOT => {
                after.doubts.push(Doubt::Name(parent, name));
            }
            _ => after.everything = true,
        }
        let inside = self.handles.all_files().map(|file| file.node);
        let inside: Vec<NodeId> = inside.filter(|node| self.nodes.parent(*node) == Ok(dir)).collect();
        for node in inside {
            self.told.forget(node);
            after.doubts.extend(self.nodes.name(node).map(|name| Doubt::Name(dir, name)));
            after.doubts.push(Doubt::Attr(node));
        }
    }

    /// The nearest directory above a node that the folders keep: those in between go with the last node in them.
    pub(super) fn leased_above(&self, node: NodeId) -> Option<NodeId> {
        let mut at = node;
        loop {
            let above = self.nodes.parent(at).ok().filter(|above| *above != at && *above != NodeId::ROOT)?;
            if self.folders.contains(above) {
                return Some(above);
            }
            at = above;
        }
    }

    /// Ends a handle's hold on its node, which the kernel may have forgotten before.
    pub(super) fn unpin(&mut self, node: NodeId) -> Aftermath {
        let above = self.leased_above(node);
        self.nodes.unpin(node);
        self.let_forgotten_go(node, above)
    }

    /// Gives the lease on a directory back that the kernel forgot, and nothing else keeps.
    pub(super) fn let_forgotten_go(&mut self, node: NodeId, above: Option<NodeId>) -> Aftermath {
        let mut after = Aftermath::default();
        self.let_one_go(node, above);
        for left in self.nodes.take_left() {
            self.let_one_go(left, None);
        }
        for (_, lease) in self.folders.take_let_go() {
            self.unsent.extend(lease);
        }
        if self.unsent.len() >= RELEASE_AT {
            after.released.append(&mut self.unsent);
        }
        after
    }

    fn let_one_go(&mut self, mut node: NodeId, mut above: Option<NodeId>) {
        loop {
            if self.folders.contains(node) {
                let higher = self.leased_above(node);
                self.nodes.unpin(node);
                if self.nodes.pin(node).is_ok() {
                    break;
                }
                self.folders.forget(node);
                above = above.or(higher);
            } else if self.nodes.file(node).is_ok() {
                break;
            }
            // Gone, and with it perhaps what kept the directory it was in.
            let Some(dir) = above.take().filter(|dir| *dir != NodeId::ROOT && *dir != node) else { break };
            (node, above) = (dir, self.leased_above(dir));
        }
    }

    /// Lets go of directories that went out of the folders.
    fn let_go(&mut self, after: &mut Aftermath) {
        after.released.append(&mut self.unsent);
        let gone = self.folders.take_let_go();
        let many = gone.iter().filter(|(_, lease)| lease.is_some()).count() > PRUNED_MAX;
        for (dir, lease) in gone {
            if let Some(lease) = lease {
                after.released.push(lease);
                if dir == NodeId::ROOT {
                    continue;
                }
                if many {
                    after.doubts.push(Doubt::Listing(dir));
                } else {
                    self.prune(dir, after);
                }
            }
            self.nodes.unpin(dir);
        }
        after.everything |= many;
    }
}

/// The lifetime under a lease, as the kernel allows it.
pub(super) fn leased_ttl(has_epochs: bool) -> Duration {
    if has_epochs { LEASED_TTL } else { super::attr::LEASED_TTL_WITHOUT_EPOCHS }
}
