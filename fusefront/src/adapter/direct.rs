//! Reads that the disk of this machine answers: each waits here, for the ring's thread or for its time to be up.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// How long the disk may take before a read goes the way that has a deadline.
const LATE_AFTER: Duration = Duration::from_secs(2);
/// How often that is looked at, while any waits.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All reads that wait for the disk: at most as many as the kernel has under way.
pub(super) struct Direct<R> {
    waiting: Mutex<Waiting<R>>,
    is_watched: AtomicBool,
}

struct Waiting<R> {
    reads: HashMap<u64, (Instant, R)>,
    next: u64,
}

impl<R> Default for Direct<R> {
    fn default() -> Direct<R> {
        let waiting = Waiting { reads: HashMap::new(), next: 0 };
        Direct { waiting: Mutex::new(waiting), is_watched: AtomicBool::new(false) }
    }
}

impl<R> Direct<R> {
    /// Keeps a read that began at `started` until it is taken; its number.
    pub(super) fn keep(&self, started: Instant, read: R) -> u64 {
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.reads.insert(number, (started, read));
        number
    }

    /// The read, unless somebody took it before.
    pub(super) fn take(&self, number: u64) -> Option<R> {
        self.waiting.lock().reads.remove(&number).map(|(_, read)| read)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().reads.len()
    }

    /// Whether somebody has to start [`Direct::watch`].
    pub(super) fn wants_watch(&self) -> bool {
        !self.is_watched.swap(true, Relaxed)
    }

    /// Hands what the disk does not answer in time to `instead`, for as long as any read waits.
    pub(super) async fn watch(self: Arc<Self>, instead: impl Fn(R)) {
        loop {
            sleep(LOOK_EVERY).await;
            self.take_late(Instant::now()).into_iter().for_each(&instead);
            // Who keeps a read from here on finds nobody watching; what was kept before is seen below.
            self.is_watched.store(false, Relaxed);
            if self.len() == 0 || self.is_watched.swap(true, Relaxed) {
                return;
            }
        }
    }

    fn take_late(&self, now: Instant) -> Vec<R> {
        let is_late =
            |_: &u64, (started, _): &mut (Instant, R)| now.saturating_duration_since(*started) >= LATE_AFTER;
        let mut waiting = self.waiting.lock();
        waiting.reads.extract_if(is_late).map(|(_, (_, read))| read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the paused clock.
    fn now() -> Instant {
        Instant::now() // clock: paused in every test here
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_disk_does_not_answer_goes_another_way_once() {
        let (direct, late) = (Arc::new(Direct::default()), Arc::new(Mutex::new(Vec::new())));
        let hung = direct.keep(now(), "hung");
        let answered = direct.keep(now(), "answered");
        assert!(direct.wants_watch() && !direct.wants_watch(), "one watches");
        let seen = late.clone();
        let watch = tokio::spawn(direct.clone().watch(move |read| seen.lock().push(read)));
        assert_eq!(direct.take(answered), Some("answered"));
        watch.await.unwrap();
        assert_eq!(*late.lock(), ["hung"]);
        assert_eq!((direct.take(hung), direct.len()), (None, 0), "the disk's answer comes too late");
        assert!(direct.wants_watch(), "the next read is watched again");
    }

    #[tokio::test(start_paused = true)]
    async fn reads_kept_while_others_are_late_are_watched_too() {
        let (direct, late) = (Arc::new(Direct::default()), Arc::new(Mutex::new(Vec::new())));
        direct.keep(now(), 1);
        assert!(direct.wants_watch());
        let seen = late.clone();
        let watch = tokio::spawn(direct.clone().watch(move |read| seen.lock().push(read)));
        sleep(LATE_AFTER - LOOK_EVERY / 2).await; // clock: paused
        direct.keep(now(), 2);
        assert!(!direct.wants_watch());
        watch.await.unwrap();
        assert_eq!(*late.lock(), [1, 2]);
    }
}
