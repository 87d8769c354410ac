//! One session's leases.

use std::sync::Arc;

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use wire::{Attr, ErrorCode, FileKind, Grant, LeaseId, SharePath};

use super::{
    Seat, Watches,
    chain::Leased,
    pending::{Due, Pending, Turn},
    tree::Holder,
};
use crate::{disk::Asked, error::Fault, share::Scope};

/// The leases of a session; all go when it ends, at the latest when this drops.
#[derive(Debug)]
pub(crate) struct Leases {
    watches: Arc<Watches>,
    session: u64,
    bell: Arc<Notify>,
}

/// What came of the wish for a lease.
#[derive(Debug)]
pub(crate) enum Taken {
    Held(Held),
    Not(Grant),
}

/// A lease whose mount does not know of it yet: dropped, it is no more.
#[derive(Debug)]
pub(crate) struct Held {
    leases: Arc<Leases>,
    lease: LeaseId,
    leased: Leased,
    kept: bool,
}

/// A push, and where what it names is to be looked at.
#[derive(Debug)]
pub(super) struct ToTell {
    pub(super) due: Due,
    pub(super) dir: Option<(Arc<Scope>, SharePath)>,
}

impl Leases {
    /// Of a session that begins.
    pub(crate) fn new(watches: Arc<Watches>, session: u64) -> Arc<Leases> {
        let bell = Arc::new(Notify::new());
        let seat = Seat { pending: Pending::default(), bell: Arc::clone(&bell) };
        watches.state.lock().sessions.insert(session, seat);
        Arc::new(Leases { watches, session, bell })
    }

    /// Watches a directory for a lease. May wait for the disk.
    ///
    /// Whatever is read of the directory afterwards is covered by it, if [`Held::grant`] agrees.
    pub(crate) fn take(self: &Arc<Leases>, lease: LeaseId, asked: &Asked) -> Result<Taken, Fault> {
        // First as any other request: what is hidden, missing or another file answers as ever.
        let place = asked.expected_place()?;
        if place.look.kind() != Some(FileKind::Directory) {
            return Err(Fault::new(ErrorCode::NotDirectory));
        }
        if !place.fs.tells {
            return Ok(Taken::Not(Grant::Unwatchable));
        }
        let holder = Holder { session: self.session, lease };
        let put = self.watches.put(&asked.scope, &asked.path, holder)?;
        Ok(match put {
            Ok(leased) => Taken::Held(Held { leases: Arc::clone(self), lease, leased, kept: false }),
            Err(grant) => Taken::Not(grant),
        })
    }

    /// Gives leases back; those that are none pass.
    pub(crate) fn release(&self, leases: &[LeaseId]) {
        let mut state = self.watches.state.lock();
        let Some(seat) = state.sessions.get_mut(&self.session) else { return };
        let nodes = leases.iter().filter_map(|&lease| Some((lease, seat.pending.remove(lease)?))).collect();
        state.let_go(self.session, nodes);
        self.watches.ring(&state);
    }

    /// The session is over.
    pub(crate) fn end(&self) {
        let mut state = self.watches.state.lock();
        let Some(mut seat) = state.sessions.remove(&self.session) else { return };
        let leases = seat.pending.clear();
        state.let_go(self.session, leases);
        self.watches.ring(&state);
    }

    /// Calls back all of them.
    pub(super) fn revoke_all(&self) {
        let mut state = self.watches.state.lock();
        state.revoke_all(self.session);
        self.watches.ring(&state);
    }

    /// Waits for something to tell. Without a deadline: there may be nothing as long as the session lasts.
    pub(super) async fn to_tell(&self) -> ToTell {
        loop {
            // Before the look, so that nothing is missed between the two.
            let bell = self.bell.notified();
            let turn = self.turn();
            match turn {
                Ok(to_tell) => return to_tell,
                Err(Some(at)) => sleep_until(at).await,
                Err(None) => bell.await,
            }
        }
    }

    /// What may be told now, or when the next may.
    fn turn(&self) -> Result<ToTell, Option<Instant>> {
        let mut state = self.watches.state.lock();
        let Some(seat) = state.sessions.get_mut(&self.session) else { return Err(None) };
        match seat.pending.turn(Instant::now()) {
            Turn::Push(due) => {
                state.counts.pushes += 1;
                let dir = due.dir.filter(|_| !due.links.is_empty()).and_then(|node| state.trees.place(node));
                Ok(ToTell { due, dir })
            }
            Turn::At(at) => Err(Some(at)),
            Turn::Idle => Err(None),
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.end();
    }
}

impl Taken {
    /// What the mount is told with the attributes of the directory, which were looked at since: a lease on another
    /// directory than these are of is none.
    pub(crate) fn grant(&self, dir: &Attr) -> Grant {
        match self {
            Taken::Held(held) => match (held.leased.inode, held.leased.birth) == (dir.id.inode, dir.id.birth)
            {
                true => Grant::Granted,
                false => Grant::Exhausted,
            },
            Taken::Not(grant) => *grant,
        }
    }

    /// The mount is told of this grant: a lease that was granted lasts.
    pub(crate) fn keep(self, grant: Grant) {
        if let (Taken::Held(mut held), Grant::Granted) = (self, grant) {
            held.kept = true;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.kept {
            self.leases.release(&[self.lease]);
        }
    }
}
