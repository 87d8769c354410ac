//! What the host says of its own accord, on its way to the mount.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::Push;

/// Bytes of pushes that are kept for a mount which does not take them, one message more at most. Some 20,000 names.
const KEPT_BYTES_MAX: usize = 2 << 20;
/// What a push or a name in it takes beside its bytes.
const PART_BYTES: usize = 64;

/// What [`Pushes::next`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The host said so, about a lease of this session.
    Push(Push),
    /// The session is over, and every lease with it, those included that are being asked for: a request that is sent
    /// again on the next session may come back with a lease that must be released.
    SessionLost,
    /// There is a session; all that follows is about its leases.
    SessionBegun,
}

/// The pushes of a client's sessions in their order, and where these begin and end. For one reader: clones share.
///
/// Who does not read costs at most 2 MiB: beyond it all that waits gives way to one [`Push::RevokedAll`].
#[derive(Clone, Debug)]
pub struct Pushes(Arc<Mailbox>);

impl Pushes {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Pushes {
        Pushes(mailbox)
    }

    /// Waits for the next; `None` once the client is closed. Without a deadline: a host may have nothing to say for
    /// ever. A dropped future has taken nothing.
    pub async fn next(&self) -> Option<Pushed> {
        loop {
            // Before the look, so that nothing is missed between the two.
            let bell = self.0.bell.notified();
            if let Some(outcome) = self.0.take() {
                return outcome;
            }
            bell.await;
        }
    }
}

/// Where pushes wait for their reader.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    queue: Mutex<Queue>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Pushed>,
    /// Of the pushes among them.
    bytes: usize,
    is_closed: bool,
}

impl Mailbox {
    /// One push of the live session.
    pub(super) fn deliver(&self, push: Push) {
        self.change(|queue| queue.add(push));
    }

    pub(super) fn session_begun(&self) {
        self.change(|queue| queue.waiting.push_back(Pushed::SessionBegun));
    }

    /// Nothing said before matters any more.
    pub(super) fn session_lost(&self) {
        self.change(|queue| {
            queue.waiting.clear();
            queue.bytes = 0;
            queue.waiting.push_back(Pushed::SessionLost);
        });
    }

    pub(super) fn close(&self) {
        self.change(|queue| queue.is_closed = true);
    }

    fn change(&self, how: impl FnOnce(&mut Queue)) {
        how(&mut self.queue.lock());
        self.bell.notify_one();
    }

    /// The next, or the end; `None` where there is neither yet.
    fn take(&self) -> Option<Option<Pushed>> {
        let mut queue = self.queue.lock();
        if queue.is_closed {
            // Whoever reads as well learns it, too.
            self.bell.notify_one();
            return Some(None);
        }
        let next = queue.waiting.pop_front()?;
        if let Pushed::Push(push) = &next {
            queue.bytes -= size(push);
        }
        Some(Some(next))
    }
}

impl Queue {
    fn add(&mut self, push: Push) {
        let mut push = push;
        if self.bytes > 0 && self.bytes + size(&push) > KEPT_BYTES_MAX {
            tracing::debug!(
                bytes = self.bytes,
                "pushes were not taken in time: every lease counts as revoked"
            );
            self.waiting.retain(|waiting| !matches!(waiting, Pushed::Push(_)));
            self.bytes = 0;
            push = Push::RevokedAll;
        }
        self.bytes += size(&push);
        self.waiting.push_back(Pushed::Push(push));
    }
}

/// About what a push takes in memory.
fn size(push: &Push) -> usize {
    PART_BYTES
        + match push {
            Push::Changed { changes, .. } => {
                changes.iter().map(|change| PART_BYTES + change.name.as_bytes().len()).sum()
            }
            Push::Revoked(leases) => size_of_val(leases.as_slice()),
            Push::RevokedAll => 0,
        }
}

#[cfg(test)]
mod tests {
    use wire::{Change, Changes, LeaseId, Name};

    use super::*;

    fn changed(lease: u64) -> Push {
        let change = Change { name: Name::new(&[b'x'; 200]).unwrap(), what: Changes::CONTENT, linked: None };
        Push::Changed { lease: LeaseId(lease), changes: vec![change; 100] }
    }

    #[tokio::test]
    async fn who_does_not_read_gets_one_revocation_and_what_follows() {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.session_begun();
        let each = size(&changed(1));
        for lease in 0..1_000 {
            mailbox.deliver(changed(lease));
            assert!(mailbox.queue.lock().bytes <= KEPT_BYTES_MAX);
        }
        let pushes = Pushes::new(mailbox.clone());
        assert_eq!(pushes.next().await, Some(Pushed::SessionBegun));
        assert_eq!(pushes.next().await, Some(Pushed::Push(Push::RevokedAll)));
        let left = (mailbox.queue.lock().bytes / each) as u64;
        for lease in 1_000 - left..1_000 {
            assert_eq!(pushes.next().await, Some(Pushed::Push(changed(lease))));
        }
        assert_eq!(mailbox.queue.lock().bytes, 0);
    }

    #[tokio::test]
    async fn a_lost_session_takes_what_it_said_along() {
        let mailbox = Arc::new(Mailbox::default());
        for _ in 0..10_000 {
            mailbox.session_begun();
            mailbox.deliver(changed(1));
            mailbox.session_lost();
        }
        mailbox.session_begun();
        mailbox.deliver(Push::RevokedAll);
        let pushes = Pushes::new(mailbox.clone());
        let expected = [Pushed::SessionLost, Pushed::SessionBegun, Pushed::Push(Push::RevokedAll)];
        for next in expected {
            assert_eq!(pushes.next().await, Some(next));
        }
        mailbox.close();
        assert_eq!((pushes.next().await, pushes.clone().next().await), (None, None));
    }
}
