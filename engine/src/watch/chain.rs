//! From the top of what a ticket opens down to a directory: every one on the way is watched before the next is found.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use rustix::io::Errno;
use wire::{FileKind, Grant, Name, SharePath};

use super::{
    Source, State, Watches,
    kernel::{Depth, Inotify},
    tree::{FileNo, Holder, NodeKey, WatchNo},
};
use crate::{
    attr::Look,
    error::Fault,
    share::{
        Scope,
        resolve::{self, Reach},
    },
};

/// How often a way that changes while it is walked is walked again.
const TRIES_MAX: u32 = 4;

/// The directory a lease was put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leased {
    pub(super) inode: u64,
    pub(super) birth: u64,
}

/// Why there is no lease.
#[derive(Debug)]
enum Stop {
    /// The way is another by now.
    Raced,
    /// The mount is told so.
    Refused(Grant),
    Failed(Fault),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        match errno {
            Errno::AGAIN => Stop::Raced,
            // Another mount: what is put there or taken away makes no event. Or a directory that may be crossed, not read.
            Errno::XDEV | Errno::ACCESS | Errno::PERM => Stop::Refused(Grant::Unwatchable),
            Errno::NOSPC | Errno::NOMEM => Stop::Refused(Grant::Exhausted),
            errno => Stop::Failed(errno.into()),
        }
    }
}

/// A directory on the way, open.
struct Stand {
    fd: OwnedFd,
    look: Look,
}

impl Stand {
    fn at(fd: OwnedFd) -> Result<Stand, Stop> {
        let look = Look::at(fd.as_fd())?;
        match look.kind() {
            Some(FileKind::Directory) => Ok(Stand { fd, look }),
            _ => Err(Stop::Failed(Errno::NOTDIR.into())),
        }
    }

    fn file(&self) -> FileNo {
        FileNo { device: self.look.device(), inode: self.look.inode() }
    }
}

impl Watches {
    /// Puts a lease on the directory at `path`, which was found there a moment ago. May wait for the disk.
    pub(super) fn put(
        &self,
        scope: &Arc<Scope>,
        path: &SharePath,
        holder: Holder,
    ) -> Result<Result<Leased, Grant>, Fault> {
        for _ in 0..TRIES_MAX {
            let outcome = self.walk(scope, path, holder);
            self.ring(&self.state.lock());
            match outcome {
                Ok(leased) => return Ok(Ok(leased)),
                Err(Stop::Raced) => {}
                Err(Stop::Refused(grant)) => {
                    if grant == Grant::Exhausted {
                        self.exhausted();
                    }
                    return Ok(Err(grant));
                }
                Err(Stop::Failed(fault)) => return Err(fault),
            }
        }
        // Whatever moves there all the time is nothing to rely on for now.
        Ok(Err(Grant::Exhausted))
    }

    fn walk(&self, scope: &Arc<Scope>, path: &SharePath, holder: Holder) -> Result<Leased, Stop> {
        let (mut node, mut stand, depth) = self.start(scope, path)?;
        for name in path.names().skip(depth) {
            let next = resolve::open(stand.fd.as_fd(), name.as_bytes(), Reach::OneMount);
            let step = next.map_err(Stop::from).and_then(Stand::at).and_then(|next| {
                let below = self.step(node, name, &next)?;
                Ok((below, next))
            });
            match step {
                Ok((below, next)) => (node, stand) = (below, next),
                Err(stop) => {
                    self.step_back(node);
                    return Err(stop);
                }
            }
        }
        self.hold(node, &stand, holder).inspect_err(|_| self.step_back(node))
    }

    /// The lowest directory on the way that is watched already, open, and how many names of the path lead to it.
    fn start(&self, scope: &Arc<Scope>, path: &SharePath) -> Result<(NodeKey, Stand, usize), Stop> {
        let top = Stand::at(resolve::open(scope.base(), b"", Reach::OneMount)?)?;
        let mut state = self.state.lock();
        let Some(root) = state.trees.top(scope, top.file()) else {
            let watch = state.watch(self, &top, Depth::Way)?;
            let root = state.trees.add_top(Arc::clone(scope), top.file(), watch);
            return Ok((root, top, 0));
        };
        let (node, depth) = state.trees.deepest(root, path).ok_or(Stop::Raced)?;
        let known = state.trees.file(node);
        drop(state);
        if depth == 0 {
            return Ok((root, top, 0));
        }
        let stand = match resolve::open(scope.base(), first(path, depth), Reach::OneMount) {
            Ok(fd) => Stand::at(fd).ok(),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => None,
            Err(errno) => return Err(errno.into()),
        };
        match stand {
            Some(stand) if Some(stand.file()) == known => Ok((node, stand, depth)),
            // The events that say so are on their way; of a mount there are none.
            _ => {
                self.cut(node);
                Err(Stop::Raced)
            }
        }
    }

    /// Watches the directory found under `name` in the one of `above`, unless it is watched.
    fn step(&self, above: NodeKey, name: Name, next: &Stand) -> Result<NodeKey, Stop> {
        let mut state = self.state.lock();
        if let Some(child) = state.trees.child(above, &name) {
            // Somebody else was faster, or an older event is on its way.
            return match state.trees.file(child) == Some(next.file()) {
                true => Ok(child),
                false => {
                    drop(state);
                    self.cut(child);
                    Err(Stop::Raced)
                }
            };
        }
        if state.trees.file(above).is_none() {
            return Err(Stop::Raced);
        }
        let watch = state.watch(self, next, Depth::Way)?;
        state.trees.add_child(above, name, next.file(), watch).ok_or(Stop::Raced)
    }

    fn hold(&self, node: NodeKey, stand: &Stand, holder: Holder) -> Result<Leased, Stop> {
        let mut state = self.state.lock();
        if !state.trees.is_held(node) {
            // Asked for again, the same watch tells more.
            state.watch(self, stand, Depth::Leased)?;
        }
        let Some(seat) = state.sessions.get(&holder.session) else {
            return Err(Stop::Failed(Fault::new(wire::ErrorCode::Stopping)));
        };
        seat.check(holder.lease)?;
        if !state.trees.hold(node, holder) {
            return Err(Stop::Raced);
        }
        if let Some(seat) = state.sessions.get_mut(&holder.session) {
            seat.pending.add(holder.lease, node);
        }
        Ok(Leased { inode: stand.look.inode(), birth: stand.look.birth() })
    }

    /// Lets go of what was watched for a walk that came to nothing.
    fn step_back(&self, node: NodeKey) {
        let mut state = self.state.lock();
        let cut = state.trees.prune_from(node);
        state.apply(cut);
    }

    /// What was watched as this directory is not at its path any more.
    fn cut(&self, node: NodeKey) {
        let mut state = self.state.lock();
        let cut = state.trees.cut(node);
        state.apply(cut);
    }

    fn exhausted(&self) {
        let mut state = self.state.lock();
        state.counts.refused += 1;
        if state.counts.refused == 1 {
            tracing::warn!(
                watches = state.watches(),
                max = self.watches_max,
                "the host watches as many folders as it may: in others, mounts see changes within seconds, not at once; \
                 raise fs.inotify.max_user_watches"
            );
        }
    }
}

impl State {
    /// Has the kernel watch a directory.
    fn watch(&mut self, watches: &Watches, stand: &Stand, depth: Depth) -> Result<WatchNo, Stop> {
        let inotify: &Inotify = match &self.source {
            Source::On(inotify) => inotify,
            #[cfg(feature = "testing")]
            Source::Off => return Err(Stop::Refused(Grant::Unwatchable)),
            Source::Failed(_) => return Err(Stop::Refused(Grant::Exhausted)),
        };
        if depth == Depth::Way && self.watches() >= watches.watches_max {
            return Err(Stop::Refused(Grant::Exhausted));
        }
        let watch = inotify.add(stand.fd.as_fd(), depth)?;
        // It may be one that was to end.
        self.unused.remove(&watch);
        Ok(watch)
    }
}

impl super::Seat {
    /// Whether the session may have another lease, under this number.
    fn check(&self, lease: wire::LeaseId) -> Result<(), Stop> {
        if self.pending.is_live(lease) {
            let why = format!("{lease} is in use");
            return Err(Stop::Failed(Fault::with(wire::ErrorCode::Invalid, why)));
        }
        if self.pending.leases() >= super::pending::LEASES_MAX {
            return Err(Stop::Refused(Grant::Exhausted));
        }
        Ok(())
    }
}

/// The first `count` names of a path that has as many.
fn first(path: &SharePath, count: usize) -> &[u8] {
    let bytes = path.as_bytes();
    let ends = bytes.iter().enumerate().filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
    let end = ends.chain([bytes.len()]).nth(count - 1);
    &bytes[..end.unwrap_or(bytes.len())]
}
