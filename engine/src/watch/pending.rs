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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::tree::Trees;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    /// A session with leases 1 to `count`.
    fn session(count: u64) -> Pending {
        let mut pending = Pending::default();
        (1..=count).for_each(|lease| pending.add(LeaseId(lease), Trees::nowhere()));
        pending
    }

    fn note(pending: &mut Pending, lease: u64, text: &str, what: Changes) -> Noted {
        pending.note(LeaseId(lease), Some((&name(text), what, false)))
    }

    fn push(pending: &mut Pending, now: Instant) -> Push {
        match pending.turn(now) {
            Turn::Push(due) => due.push,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_goes_at_once_and_the_next_together_at_the_pace() {
        let mut pending = session(2);
        let now = Instant::now(); // clock: paused
        note(&mut pending, 1, "a", Changes::CREATED);
        assert!(matches!(push(&mut pending, now), Push::Changed { lease: LeaseId(1), .. }));
        assert!(matches!(pending.turn(now), Turn::Idle));
        note(&mut pending, 1, "a", Changes::CONTENT);
        note(&mut pending, 2, "b", Changes::REMOVED);
        note(&mut pending, 1, "a", Changes::ATTR);
        assert!(matches!(pending.turn(now), Turn::At(at) if at == now + PACE));
        let change = Change { name: name("a"), what: Changes::CONTENT | Changes::ATTR, linked: None };
        let first = Push::Changed { lease: LeaseId(1), changes: vec![change] };
        assert_eq!(push(&mut pending, now + PACE), first);
        assert!(matches!(push(&mut pending, now + PACE), Push::Changed { lease: LeaseId(2), .. }));
        assert!(matches!(pending.turn(now + PACE), Turn::Idle));
        assert_eq!(pending.bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_goes_takes_its_changes_along_and_leaves_no_trace() {
        let now = Instant::now(); // clock: paused
        let mut pending = session(1);
        for lease in 2..10_000 {
            pending.add(LeaseId(lease), Trees::nowhere());
            note(&mut pending, lease, "a", Changes::CONTENT);
            assert!(pending.remove(LeaseId(lease)).is_some());
            assert!(pending.order.len() <= IN_ORDER_SPARE + 1);
        }
        assert!(matches!(pending.turn(now), Turn::Idle));
        note(&mut pending, 1, "b", Changes::CONTENT);
        assert!(matches!(push(&mut pending, now), Push::Changed { lease: LeaseId(1), .. }));
        assert_eq!((pending.bytes, pending.leases()), (0, 1));
        assert!(pending.remove(LeaseId(5)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_push_does_not_hold_is_in_the_next() {
        let now = Instant::now(); // clock: paused
        let mut pending = session(1);
        let mut left: std::collections::HashSet<Name> =
            (0..NAMES_MAX).map(|n| name(&format!("{n:0200}"))).collect();
        for name in &left {
            assert_eq!(pending.note(LeaseId(1), Some((name, Changes::CONTENT, true))), Noted::Waits);
        }
        assert_eq!(note(&mut pending, 1, "more", Changes::CONTENT), Noted::LeaseFull);
        let mut pushes = 0;
        while let Turn::Push(Due { push, links, .. }) = pending.turn(now) {
            let Push::Changed { changes, .. } = &push else { panic!("{push:?}") };
            assert_eq!(links.len(), changes.len());
            // With room for the file of each.
            let bytes: usize = changes.iter().map(|change| change.wire_bytes() + FILE_ID_BYTES).sum();
            assert!(LEASE_BYTES + bytes <= limits::PUSH_BYTES_MAX);
            changes.iter().for_each(|change| assert!(left.remove(&change.name)));
            pushes += 1;
        }
        assert_eq!((left.len(), pending.bytes), (0, 0));
        assert_eq!(pushes, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn revocations_go_first_and_are_bounded() {
        let now = Instant::now(); // clock: paused
        let mut pending = session(1);
        note(&mut pending, 1, "a", Changes::CONTENT);
        let count = LEASES_MAX as u64;
        assert!((0..count).all(|lease| pending.note_revoked(LeaseId(lease + 2))));
        assert!(!pending.note_revoked(LeaseId(1)));
        for _ in 0..LEASES_MAX / limits::REVOKED_MAX {
            assert!(
                matches!(push(&mut pending, now), Push::Revoked(some) if some.len() == limits::REVOKED_MAX)
            );
        }
        assert!(matches!(push(&mut pending, now), Push::Changed { .. }));
        pending.note_revoked(LeaseId(2));
        assert_eq!(pending.clear().len(), 1);
        pending.note_all_revoked();
        assert_eq!(push(&mut pending, now + PACE), Push::RevokedAll);
        assert!(matches!(pending.turn(now + PACE), Turn::Idle));
    }
}
