//! Watches: the directories that some mount holds a lease on, and what the kernel tells of them.
//!
//! A lease is granted once its directory and every one on the way to it, from the top of what the ticket opens, is
//! watched; each was found in the one above after that was watched. So whatever makes the path lead elsewhere, or changes
//! an entry, is an event of one of them, and the lease is told or called back. Bounded: watches by `watches_max`, leases
//! of a session by `LEASES_MAX`, what waits for a session by its bytes.

mod chain;
mod kernel;
mod links;
mod mounts;
mod pending;
mod session;
mod tree;
pub(crate) mod usage;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{fs::inotify::ReadFlags, io::Errno};
use tokio::{io::unix::AsyncFd, sync::Notify};
use wire::{Changes, FileKind, LeaseId, Name};

use kernel::{Event, Inotify};
use mounts::{Changed, MountTable};
use pending::{Noted, Pending};
pub(crate) use session::Leases;
use tree::{Cut, Holder, NodeKey, Trees, WatchNo};
use usage::{Counts, WatchUsage};

use crate::share::resolve;

/// Watches of a host whose kernel does not say how many there may be.
const WATCHES_UNKNOWN: usize = 4_096;
/// Events taken in one go: a storm leaves the thread to others in between.
const EVENTS_IN_TURN: usize = 1_024;
/// Watches ended in one go.
const ENDED_IN_TURN: usize = 256;
/// How long a host without inotify waits before it tries again.
const RETRY: Duration = Duration::from_secs(5);

/// What a host watches, for all its sessions.
#[derive(Debug)]
pub(crate) struct Watches {
    state: Mutex<State>,
    watches_max: usize,
    /// Some watches are not needed any more.
    untidy: Notify,
}

#[derive(Debug)]
struct State {
    source: Source,
    trees: Trees,
    sessions: HashMap<u64, Seat>,
    /// Watches that nothing needs, and that the kernel still has.
    unused: HashSet<WatchNo>,
    counts: Counts,
}

/// Where events come from.
#[derive(Debug)]
enum Source {
    /// Nowhere: a host without threads of its own.
    #[cfg(feature = "testing")]
    Off,
    /// Nowhere for now; why.
    Failed(Errno),
    On(Arc<Inotify>),
}

#[derive(Debug)]
struct Seat {
    pending: Pending,
    bell: Arc<Notify>,
}

impl Watches {
    /// Watches of a host that calls [`Watches::attend`]; without a bound of its own, half of what the user may have.
    pub(crate) fn new(watches_max: Option<usize>) -> Arc<Watches> {
        let source = match Inotify::new() {
            Ok(inotify) => Source::On(Arc::new(inotify)),
            Err(errno) => Source::Failed(errno),
        };
        let half = || kernel::user_watches_max().map_or(WATCHES_UNKNOWN, |max| max / 2);
        Watches::from(source, watches_max.unwrap_or_else(half))
    }

    /// None ever: every lease is refused.
    #[cfg(feature = "testing")]
    pub(crate) fn off() -> Arc<Watches> {
        Watches::from(Source::Off, 0)
    }

    fn from(source: Source, watches_max: usize) -> Arc<Watches> {
        let state = State {
            source,
            trees: Trees::default(),
            sessions: HashMap::new(),
            unused: HashSet::new(),
            counts: Counts::default(),
        };
        Arc::new(Watches { state: Mutex::new(state), watches_max, untidy: Notify::new() })
    }

    pub(crate) fn usage(&self) -> WatchUsage {
        let state = self.state.lock();
        WatchUsage {
            watches: state.watches(),
            watches_max: self.watches_max,
            leases: state.trees.leases(),
            failed: match state.source {
                Source::Failed(errno) => Some(errno),
                _ => None,
            },
            counts: state.counts,
        }
    }

    /// Passes on what the kernel tells, for as long as the host runs; on the host's runtime.
    pub(crate) async fn attend(self: Arc<Watches>) {
        let mut warned = false;
        // Each turn lasts until events are lost or the kernel gives none, which is waited for.
        loop {
            let errno = match self.listen().await {
                Ok(()) => {
                    let counts = &mut self.state.lock().counts;
                    counts.overflows += 1;
                    if counts.overflows == 1 {
                        tracing::warn!(
                            "the kernel dropped events: every lease is called back; if `status` shows this often, raise \
                             fs.inotify.max_queued_events"
                        );
                    }
                    continue;
                }
                Err(errno) => errno,
            };
            self.state.lock().source = Source::Failed(errno);
            if !std::mem::replace(&mut warned, true) {
                tracing::warn!(
                    %errno,
                    "no inotify: mounts see changes within seconds, not at once; if it is a limit, raise \
                     fs.inotify.max_user_instances"
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Until events are lost; all leases are called back then.
    async fn listen(&self) -> Result<(), Errno> {
        let inotify = self.inotify()?;
        let events = register(inotify);
        let outcome = match &events {
            Ok(events) => self.pass_on(events).await,
            Err(errno) => Err(*errno),
        };
        self.start_anew();
        if let Ok(events) = events {
            let inotify = events.into_inner();
            // With many watches it takes a while; nobody waits for it.
            drop(tokio::task::spawn_blocking(move || drop(inotify)));
        }
        outcome
    }

    /// The instance that is there, or a new one.
    fn inotify(&self) -> Result<Arc<Inotify>, Errno> {
        let mut state = self.state.lock();
        if let Source::On(inotify) = &state.source {
            return Ok(Arc::clone(inotify));
        }
        let inotify = Arc::new(Inotify::new()?);
        state.source = Source::On(Arc::clone(&inotify));
        Ok(inotify)
    }

    async fn pass_on(&self, events: &AsyncFd<Arc<Inotify>>) -> Result<(), Errno> {
        let inotify = Arc::clone(events.get_ref());
        let mut mounts = MountTable::open();
        // Without a deadline: a folder may stay as it is for ever.
        loop {
            tokio::select! {
                ready = events.readable() => {
                    let mut ready = ready.map_err(|error| errno_of(&error))?;
                    match self.state.lock().take_events(&inotify)? {
                        Taking::Rest => {}
                        Taking::Done => ready.clear_ready(),
                        Taking::Lost => return Ok(()),
                    }
                }
                () = self.untidy.notified() => self.tidy(&inotify),
                () = mounts.changed() => self.state.lock().mounted(&mounts.take_changes()),
            }
            self.tidy(&inotify);
            tokio::task::yield_now().await;
        }
    }

    /// Ends some of the watches that nothing needs.
    fn tidy(&self, inotify: &Inotify) {
        let mut state = self.state.lock();
        let some: Vec<WatchNo> = state.unused.iter().copied().take(ENDED_IN_TURN).collect();
        for watch in some {
            state.unused.remove(&watch);
            inotify.remove(watch);
        }
        if !state.unused.is_empty() {
            self.untidy.notify_one();
        }
    }

    /// Calls back every lease and forgets every watch: the kernel has dropped events, or the instance goes.
    fn start_anew(&self) {
        let mut state = self.state.lock();
        let sessions: Vec<u64> = state.sessions.keys().copied().collect();
        for session in sessions {
            state.revoke_all(session);
        }
        state.trees = Trees::default();
        state.unused.clear();
        state.source = Source::Failed(Errno::AGAIN);
    }

    /// Wakes who ends watches, if there are such.
    fn ring(&self, state: &State) {
        if !state.unused.is_empty() {
            self.untidy.notify_one();
        }
    }
}

#[expect(
    deprecated,
    reason = "`register` is unsafe, which is forbidden here; the descriptor is owned by what is given, for as long"
)]
fn register(inotify: Arc<Inotify>) -> Result<AsyncFd<Arc<Inotify>>, Errno> {
    AsyncFd::new(inotify).map_err(|error| errno_of(&error))
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// How far the events were taken.
enum Taking {
    /// There may be more.
    Rest,
    Done,
    /// The kernel has dropped some.
    Lost,
}

impl State {
    fn watches(&self) -> usize {
        self.trees.watches() + self.unused.len()
    }

    fn take_events(&mut self, inotify: &Inotify) -> Result<Taking, Errno> {
        let mut lost = false;
        let done = inotify.read(EVENTS_IN_TURN, |event| {
            if event.what.contains(ReadFlags::QUEUE_OVERFLOW) {
                lost = true;
            } else {
                self.happened(event);
            }
        })?;
        Ok(match (lost, done) {
            (true, _) => Taking::Lost,
            (false, true) => Taking::Done,
            (false, false) => Taking::Rest,
        })
    }

    /// Calls back the leases of whatever part of a share has something mounted or unmounted in it.
    fn mounted(&mut self, changed: &Changed) {
        for (top, scope) in self.trees.tops() {
            let path = std::fs::read_link(resolve::link_of(scope.base()));
            if path.is_ok_and(|path| changed.is_below(&path)) {
                let cut = self.trees.cut(top);
                self.apply(cut);
            }
        }
    }

    fn happened(&mut self, event: Event<'_>) {
        for node in self.trees.of_watch(event.watch) {
            match event.name {
                None => self.happened_to(node, event.what),
                Some(name) => self.happened_in(node, event.what, name),
            }
        }
    }

    /// Something happened to the directory itself.
    fn happened_to(&mut self, node: NodeKey, what: ReadFlags) {
        const GONE: ReadFlags = ReadFlags::DELETE_SELF.union(ReadFlags::IGNORED).union(ReadFlags::UNMOUNT);
        // The top is held open: wherever it moves, what the ticket opens is what is below it.
        let moved = what.contains(ReadFlags::MOVE_SELF) && !self.trees.is_top(node);
        if moved || what.intersects(GONE) {
            let cut = self.trees.cut(node);
            self.apply(cut);
        } else if what.contains(ReadFlags::ATTRIB) {
            self.note(node, None);
        }
    }

    /// Something happened to an entry of the directory.
    fn happened_in(&mut self, node: NodeKey, what: ReadFlags, name: &[u8]) {
        // What came to be is found after that, if it is found: the event may be older than the lease on it.
        const LEADS_ELSEWHERE: ReadFlags =
            ReadFlags::DELETE.union(ReadFlags::MOVED_FROM).union(ReadFlags::MOVED_TO);
        let is_new = what.contains(ReadFlags::CREATE);
        let leads_elsewhere = what.intersects(LEADS_ELSEWHERE);
        let Ok(name) = Name::new(name) else {
            // The wire cannot carry it, and nobody knows it; the directory's times moved all the same.
            return self.note(node, None);
        };
        if leads_elsewhere && let Some(child) = self.trees.child(node, &name) {
            let cut = self.trees.cut(child);
            self.apply(cut);
        }
        if self.trees.holders(node).is_empty() {
            return;
        }
        let is_dir = what.contains(ReadFlags::ISDIR);
        if self.hides(node, &name, is_dir) {
            // The times of the directory moved all the same.
            if leads_elsewhere || is_new {
                self.note(node, None);
            }
            return;
        }
        let may_be_link = what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) && !is_dir;
        self.note(node, Some((&name, changes(what), may_be_link)));
    }

    /// Whether the share's patterns hide an entry.
    fn hides(&self, node: NodeKey, name: &Name, is_dir: bool) -> bool {
        if !self.trees.has_patterns(node) {
            return false;
        }
        // A directory whose way is too long for the wire shows nothing.
        let Some((scope, dir)) = self.trees.place(node) else { return true };
        let kind = if is_dir { FileKind::Directory } else { FileKind::Regular };
        scope.entries_of(&dir).is_some_and(|mut entries| entries.hide(name.as_bytes(), Some(kind)))
    }

    /// Tells every lease on the directory.
    fn note(&mut self, node: NodeKey, name: Option<(&Name, Changes, bool)>) {
        // A few numbers of their own: leases go on the way.
        let holders = Vec::from(self.trees.holders(node));
        for holder in holders {
            let Some(seat) = self.sessions.get_mut(&holder.session) else { continue };
            match seat.pending.note(holder.lease, name) {
                Noted::Waits => seat.bell.notify_one(),
                Noted::LeaseFull => {
                    let cut = self.trees.release(node, holder);
                    self.apply(cut);
                    self.revoked(holder);
                }
                Noted::SessionFull => self.revoke_all(holder.session),
            }
        }
    }

    /// Calls back the leases that were cut off, and lets go of their watches.
    fn apply(&mut self, cut: Cut) {
        self.unused.extend(cut.unused);
        for holder in cut.revoked {
            self.revoked(holder);
        }
    }

    /// A lease is off its directory: the session is told.
    fn revoked(&mut self, holder: Holder) {
        let Some(seat) = self.sessions.get_mut(&holder.session) else { return };
        seat.pending.remove(holder.lease);
        self.counts.revoked += 1;
        if seat.pending.note_revoked(holder.lease) {
            seat.bell.notify_one();
        } else {
            self.revoke_all(holder.session);
        }
    }

    /// Calls back all leases of a session; one that has none, and of which none waits to be called back, is told nothing.
    fn revoke_all(&mut self, session: u64) {
        let Some(seat) = self.sessions.get_mut(&session) else { return };
        let is_told = !seat.pending.has_revoked();
        let leases = seat.pending.clear();
        if leases.is_empty() && is_told {
            return;
        }
        self.counts.revoked += leases.len() as u64;
        seat.pending.note_all_revoked();
        seat.bell.notify_one();
        self.let_go(session, leases);
    }

    /// Takes leases that a session has no more off their directories.
    fn let_go(&mut self, session: u64, leases: Vec<(LeaseId, NodeKey)>) {
        for (lease, node) in leases {
            let cut = self.trees.release(node, Holder { session, lease });
            self.unused.extend(cut.unused);
        }
    }
}

/// What an event says of a name.
fn changes(what: ReadFlags) -> Changes {
    let each = [
        (ReadFlags::CREATE.union(ReadFlags::MOVED_TO), Changes::CREATED),
        (ReadFlags::DELETE.union(ReadFlags::MOVED_FROM), Changes::REMOVED),
        (ReadFlags::MODIFY.union(ReadFlags::CLOSE_WRITE), Changes::CONTENT),
        (ReadFlags::ATTRIB, Changes::ATTR),
    ];
    let said = each.into_iter().filter(|(flags, _)| what.intersects(*flags));
    said.fold(Changes::default(), |all, (_, change)| all | change)
}

#[cfg(test)]
mod tests;
