//! The place of one live session, by which its ticket's end reaches it.

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use wire::auth::Claims;

use super::{Book, Refusal, has_ended, seconds_left};

/// How long a session may outlive its ticket's end, also when the clock is set or the machine slept meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A session as the host knows it.
#[derive(Debug)]
pub(crate) struct Occupant {
    pub(crate) number: u64,
    /// What the mount calls itself, without control characters.
    pub(crate) label: String,
    pub(crate) peer: SocketAddr,
    pub(crate) claims: Claims,
    pub(crate) since: Instant,
    /// Requests taken up.
    pub(crate) requests: AtomicU64,
    revoked: AtomicBool,
    wake: Notify,
}

impl Occupant {
    pub(super) fn new(number: u64, claims: Claims, label: String, peer: SocketAddr) -> Occupant {
        Occupant {
            number,
            label,
            peer,
            claims,
            since: Instant::now(),
            requests: AtomicU64::new(0),
            revoked: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Makes its next request fail, and ends it. Whether this was the first time.
    pub(super) fn revoke(&self) -> bool {
        let first = !self.revoked.swap(true, Ordering::Relaxed);
        // Kept for `dismissed` if it does not wait yet.
        self.wake.notify_one();
        first
    }

    /// Whether its ticket is still good; looked at for every request.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.revoked.load(Ordering::Relaxed) {
            return Err(Refusal::Revoked);
        }
        if has_ended(self.claims.expires) { Err(Refusal::Expired) } else { Ok(()) }
    }

    /// Waits until the ticket is revoked or runs out: without a deadline, a good ticket may stay so for ever. For one
    /// waiter at a time.
    pub(crate) async fn dismissed(&self) -> Refusal {
        loop {
            if let Err(refusal) = self.check() {
                return refusal;
            }
            match seconds_left(self.claims.expires) {
                None => self.wake.notified().await,
                Some(left) => {
                    let look = sleep(left.min(LOOK_EVERY));
                    tokio::select! { () = self.wake.notified() => {}, () = look => {} }
                }
            }
        }
    }
}

/// Keeps an [`Occupant`] in the list of live sessions until it drops.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(super) occupant: Arc<Occupant>,
    pub(super) book: Arc<Book>,
}

impl Deref for Seat {
    type Target = Occupant;

    fn deref(&self) -> &Occupant {
        &self.occupant
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.book.leave(self.occupant.number);
    }
}
