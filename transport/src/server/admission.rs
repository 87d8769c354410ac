//! Admission: each request waits here until its answer fits into what its session and the host may hold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{self, Instant},
};
use wire::{bound::Bound, message::Class};

use super::ServerLimits;
use crate::waits::Stall;

mod fair;
#[cfg(feature = "testing")]
mod queue;

pub(super) use fair::Tally;
use fair::{Asked, Fair, Grant, HeldBy, Order, Place};
#[cfg(feature = "testing")]
pub use queue::{Admitted, Held, Queue};

/// What is worth giving back early: less costs more time than it frees bytes.
const SHRINK_BYTES: u32 = 4 << 10;

/// The admission of one host.
#[derive(Debug)]
pub(super) struct Admission {
    fair: Mutex<Fair<oneshot::Sender<Grant>>>,
    /// Rings when the queue may have to be looked at earlier; only where there are rates.
    pace: Option<Notify>,
    /// When it was made: the time where there are no rates, and none counts.
    made: Instant,
    busy: AtomicU64,
}

/// A session's place in it, given up when dropped.
#[derive(Debug)]
pub(super) struct Guest {
    admission: Arc<Admission>,
    number: usize,
    /// In the order of [`HELD_BY`].
    waits: [Stall; HELD_BY.len()],
}

/// What a request may wait for.
const HELD_BY: [(HeldBy, Bound); 4] = [
    (HeldBy::OwnRate, Bound::SessionRate),
    (HeldBy::Rate, Bound::HostRate),
    (HeldBy::OwnBytes, Bound::SessionAnswers),
    (HeldBy::Bytes, Bound::HostAnswers),
];

/// What an admitted request holds until it is dropped.
#[derive(Debug)]
pub(super) struct Permit<'g> {
    guest: &'g Guest,
    grant: Option<Grant>,
    answered: bool,
    /// When it was admitted; `None` where it was at once.
    waited_until: Option<Instant>,
}

/// The host has more requests than it lets wait.
#[derive(Debug)]
pub(super) struct Busy;

impl Admission {
    pub(super) fn new(limits: &ServerLimits) -> Arc<Admission> {
        let paced = limits.session_bytes_per_s.is_some() || limits.host_bytes_per_s.is_some();
        let made = Instant::now();
        Arc::new(Admission {
            fair: Mutex::new(Fair::new(limits, made)),
            pace: paced.then(Notify::new),
            made,
            busy: AtomicU64::new(0),
        })
    }

    /// A new session.
    pub(super) fn join(self: &Arc<Self>) -> Guest {
        let number = self.fair.lock().join(self.now());
        Guest { admission: self.clone(), number, waits: Default::default() }
    }

    /// The time, as far as it matters here: rates alone depend on it, and reading the clock several times a request shows.
    fn now(&self) -> Instant {
        if self.pace.is_some() { Instant::now() } else { self.made }
    }

    /// What all sessions hold.
    pub(super) fn total(&self) -> Tally {
        self.fair.lock().total()
    }

    /// Requests that were answered Busy.
    pub(super) fn busy(&self) -> u64 {
        self.busy.load(Ordering::Relaxed)
    }

    /// Counts one more of them.
    pub(super) fn turned_away(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// Admits those whose rate allows it again; runs as long as the host does, and only where there are rates.
    pub(super) async fn keep_pace(self: Arc<Self>) {
        let Some(pace) = &self.pace else { return };
        loop {
            // Before the look, so that no ring is missed between the two.
            let rung = pace.notified();
            let wake_at = self.fair.lock().wake_at();
            match wake_at {
                // Without a deadline: as long as nothing waits for a rate, nothing is to be done.
                None => rung.await,
                Some(at) => tokio::select! {
                    () = time::sleep_until(at) => {}
                    () = rung => {}
                },
            }
            self.change(|_| ());
        }
    }

    /// Changes the queue and admits what can be admitted then.
    fn change<R>(&self, change: impl FnOnce(&mut Fair<oneshot::Sender<Grant>>) -> R) -> R {
        let mut fair = self.fair.lock();
        let before = self.pace.as_ref().and_then(|_| fair.wake_at());
        let result = change(&mut fair);
        fair.pump(self.now(), |waiter, grant| {
            // Who waits holds the other end until it has left the queue, which needs this lock.
            waiter.send(grant).expect("a request in the queue is waited for");
        });
        if let Some(pace) = &self.pace {
            let after = fair.wake_at();
            if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
                pace.notify_one();
            }
        }
        result
    }
}

impl Guest {
    /// Waits until the answer to a request may be read and sent.
    ///
    /// Without a deadline: the request has one. A dropped future leaves the queue.
    pub(super) async fn admit(&self, class: Class, bytes: u32) -> Result<Permit<'_>, Busy> {
        let order = Order { class, bytes };
        // Apart from the match, which would keep the lock for as long as it runs.
        let asked = self.admission.fair.lock().ask(self.admission.now(), self.number, order);
        match asked {
            Asked::Granted(grant) => {
                Ok(Permit { guest: self, grant: Some(grant), answered: false, waited_until: None })
            }
            Asked::Wait(held_by) => {
                let stall = HELD_BY.iter().zip(&self.waits).find(|((by, _), _)| Some(*by) == held_by);
                let _waiting = stall.map(|(_, stall)| stall.hold(Instant::now()));
                let (waiter, granted) = oneshot::channel();
                let place = self.admission.change(|fair| fair.wait(self.number, order, waiter));
                let mut waiting = Waiting { guest: self, place, granted: Some(granted) };
                let grant = waiting.granted.as_mut().expect("nobody took it").await;
                waiting.granted = None;
                let grant = grant.expect("the queue drops no waiter");
                let waited_until = Some(Instant::now());
                Ok(Permit { guest: self, grant: Some(grant), answered: false, waited_until })
            }
            Asked::Busy => {
                self.admission.turned_away();
                Err(Busy)
            }
        }
    }

    /// For how long what made its requests wait, so far.
    pub(super) fn waited(&self, now: Instant) -> impl Iterator<Item = (Bound, Duration)> + '_ {
        HELD_BY.iter().zip(&self.waits).map(move |((_, bound), stall)| (*bound, stall.total(now)))
    }

    /// What the session holds.
    pub(super) fn tally(&self) -> Tally {
        self.admission.fair.lock().tally(self.number)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Its permits and those who wait borrow it: none is left.
        self.admission.change(|fair| fair.leave(self.number));
    }
}

impl Permit<'_> {
    /// When it was admitted; `None` where it did not wait.
    pub(super) fn waited_until(&self) -> Option<Instant> {
        self.waited_until
    }

    /// The answer is there and has this many bytes: the rest is for others.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.answered = true;
        let Some(grant) = &mut self.grant else { return };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let admission = &self.guest.admission;
        if grant.bytes().saturating_sub(bytes) >= SHRINK_BYTES || admission.pace.is_some() {
            admission.change(|fair| fair.shrink(grant, bytes));
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Some(mut grant) = self.grant.take() else { return };
        self.guest.admission.change(|fair| {
            if !self.answered {
                // Nothing was sent that a rate would have to pay for.
                fair.shrink(&mut grant, 0);
            }
            fair.release(grant);
        });
    }
}

/// A request in the queue.
struct Waiting<'g> {
    guest: &'g Guest,
    place: Place,
    /// `None` once it has its grant.
    granted: Option<oneshot::Receiver<Grant>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(granted) = &mut self.granted else { return };
        let admission = &self.guest.admission;
        let in_queue = admission.change(|fair| fair.withdraw(self.place).is_some());
        // Admitted, and nobody there any more to use it.
        if !in_queue && let Ok(grant) = granted.try_recv() {
            drop(Permit { guest: self.guest, grant: Some(grant), answered: false, waited_until: None });
        }
    }
}

#[cfg(test)]
mod tests;
