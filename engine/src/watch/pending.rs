//! What one session is to be told: changes put together, and bounded.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use wire::{Change, Changes, LeaseId, Name, Push, limits};

use super::tree::NodeKey;

/// Leases of one session.
pub(super) const LEASES_MAX: usize = 16_384;
/// Names of one directory that wait; with more, the lease goes.
const NAMES_MAX: usize = 1_024;
/// Bytes of all that waits for a session; with more, all its leases go.
const BYTES_MAX: usize = 1 << 20;
/// What a name or a directory that waits takes beside its bytes.
const PART_BYTES: usize = 64;
/// Keys that are gone and may stay in the order.
const IN_ORDER_SPARE: usize = 64;
/// The least time between two batches: the first change is told at once.
pub(super) const PACE: Duration = Duration::from_millis(10);

/// What is known of one name that waits.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    what: Changes,
    /// It came to be and is no directory: it may be one more name of a file.
    may_be_link: bool,
}

/// A session's leases, and what it is to be told of them.
#[derive(Debug, Default)]
pub(super) struct Pending {
    leases: HashMap<LeaseId, NodeKey>,
    changed: HashMap<LeaseId, HashMap<Name, Doubt>>,
    /// The keys of `changed` as they came, and some that are gone.
    order: VecDeque<LeaseId>,
    revoked: Vec<LeaseId>,
    all_revoked: bool,
    /// Of what waits in `changed`.
    bytes: usize,
    /// Pushes that may go before the pace counts again.
    in_batch: usize,
    next_batch: Option<Instant>,
}

/// What came of noting a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It waits.
    Waits,
    /// Too many names of this directory wait: the lease has to go.
    LeaseFull,
    /// Too much waits for this session: all its leases have to go.
    SessionFull,
}

/// A push that may go.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) push: Push,
    /// The directory of the push, where its names are to be looked at.
    pub(super) dir: Option<NodeKey>,
    /// The changes of it, by their place, that may be one more name of a file.
    pub(super) links: Vec<usize>,
}

/// What the session may do now.
#[derive(Debug)]
pub(super) enum Turn {
    Push(Due),
    /// Something waits for the pace.
    At(Instant),
    /// Nothing waits.
    Idle,
}

impl Pending {
    pub(super) fn leases(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn is_live(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    pub(super) fn add(&mut self, lease: LeaseId, node: NodeKey) {
        self.leases.insert(lease, node);
    }

    /// Forgets a lease and what waits for it.
    pub(super) fn remove(&mut self, lease: LeaseId) -> Option<NodeKey> {
        let node = self.leases.remove(&lease)?;
        if let Some(names) = self.changed.remove(&lease) {
            self.bytes -= bytes_of(&names);
        }
        // Now and then, so that many at once cost no look at all the others each.
        if self.order.len() > 2 * self.changed.len() + IN_ORDER_SPARE {
            self.order.retain(|lease| self.changed.contains_key(lease));
        }
        Some(node)
    }

    /// All leases, which are no more; nothing waits any more, either.
    pub(super) fn clear(&mut self) -> Vec<(LeaseId, NodeKey)> {
        self.changed.clear();
        self.order.clear();
        self.revoked.clear();
        self.bytes = 0;
        self.leases.drain().collect()
    }

    /// Whether leases that were called back wait to be told so.
    pub(super) fn has_revoked(&self) -> bool {
        self.all_revoked || !self.revoked.is_empty()
    }

    /// Notes that a name (without one: the directory itself) is in doubt.
    pub(super) fn note(&mut self, lease: LeaseId, name: Option<(&Name, Changes, bool)>) -> Noted {
        let names = self.changed.entry(lease).or_insert_with(|| {
            self.order.push_back(lease);
            self.bytes += PART_BYTES;
            HashMap::new()
        });
        let Some((name, what, may_be_link)) = name else { return self.full() };
        if let Some(doubt) = names.get_mut(name) {
            doubt.what |= what;
            doubt.may_be_link |= may_be_link;
            return Noted::Waits;
        }
        if names.len() >= NAMES_MAX {
            return Noted::LeaseFull;
        }
        names.insert(name.clone(), Doubt { what, may_be_link });
        self.bytes += PART_BYTES + name.as_bytes().len();
        self.full()
    }

    fn full(&self) -> Noted {
        if self.bytes > BYTES_MAX { Noted::SessionFull } else { Noted::Waits }
    }

    /// Notes that a lease, which was removed, is to be called back; whether there is room to say so of each.
    pub(super) fn note_revoked(&mut self, lease: LeaseId) -> bool {
        if self.revoked.len() >= LEASES_MAX {
            return false;
        }
        self.revoked.push(lease);
        true
    }

    /// Notes that all leases, which were cleared, are called back.
    pub(super) fn note_all_revoked(&mut self) {
        self.all_revoked = true;
    }

    /// The next push, at the session's pace.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        let revocations = self.revoked.len().div_ceil(limits::REVOKED_MAX);
        let waiting = usize::from(self.all_revoked) + revocations + self.changed.len();
        if waiting == 0 {
            return Turn::Idle;
        }
        if self.in_batch == 0 {
            if let Some(at) = self.next_batch.filter(|at| *at > now) {
                return Turn::At(at);
            }
            self.in_batch = waiting;
            self.next_batch = Some(now + PACE);
        }
        self.in_batch -= 1;
        Turn::Push(self.take())
    }

    /// Something that waits; there is something.
    fn take(&mut self) -> Due {
        let alone = |push| Due { push, dir: None, links: Vec::new() };
        if std::mem::take(&mut self.all_revoked) {
            return alone(Push::RevokedAll);
        }
        if !self.revoked.is_empty() {
            let count = self.revoked.len().min(limits::REVOKED_MAX);
            return alone(Push::Revoked(self.revoked.drain(..count).collect()));
        }
        while self.order.front().is_some_and(|lease| !self.changed.contains_key(lease)) {
            self.order.pop_front();
        }
        let lease = self.order.front().copied().expect("a change waits");
        let names = self.changed.get_mut(&lease).expect("others were passed over");
        let (mut changes, mut links, mut wire_bytes) = (Vec::new(), Vec::new(), LEASE_BYTES);
        let mut left = HashMap::new();
        for (name, doubt) in names.drain() {
            let change = Change { name, what: doubt.what, linked: None };
            wire_bytes += change.wire_bytes() + FILE_ID_BYTES;
            if wire_bytes > limits::PUSH_BYTES_MAX {
                left.insert(change.name, doubt);
                continue;
            }
            self.bytes -= PART_BYTES + change.name.as_bytes().len();
            if doubt.may_be_link {
                links.push(changes.len());
            }
            changes.push(change);
        }
        if left.is_empty() {
            self.changed.remove(&lease);
            self.order.pop_front();
            self.bytes -= PART_BYTES;
        } else {
            // More than one push holds: the rest is the next.
            *names = left;
            self.in_batch += 1;
        }
        let dir = self.leases.get(&lease).copied();
        Due { push: Push::Changed { lease, changes }, dir, links }
    }
}

/// Before the changes of a push: the lease and their count.
const LEASE_BYTES: usize = 10;
/// The most that a look at a name adds to its change.
const FILE_ID_BYTES: usize = 24;

fn bytes_of(names: &HashMap<Name, Doubt>) -> usize {
    PART_BYTES + names.keys().map(|name| PART_BYTES + name.as_bytes().len()).sum::<usize>()
}
