//! Whether the disk can be relied on: one that fails is left alone for a while.
//!
//! A disk that cannot be written may still be read (it was made read-only, or is full); one that cannot be read is not
//! written either.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Reads that fail one after the other until the disk is left alone; a single one may be a bad sector.
const READ_FAILURES_MAX: u32 = 3;

pub(super) struct Health {
    no_reads: AtomicBool,
    no_writes: AtomicBool,
    /// The disk is well, but there is no room for a region, and none can be given up.
    no_room: AtomicBool,
    state: Mutex<State>,
    retry_after: Duration,
}

#[derive(Default)]
struct State {
    why: Option<String>,
    retry_at: Option<Instant>,
    read_failures: u32,
    /// Said once a process; what follows is in the counters.
    has_warned: bool,
}

impl Health {
    pub(super) fn new(retry_after: Duration) -> Health {
        Health {
            no_reads: AtomicBool::new(false),
            no_writes: AtomicBool::new(false),
            no_room: AtomicBool::new(false),
            state: Mutex::default(),
            retry_after,
        }
    }

    /// Whether nothing is to be read now.
    pub(super) fn no_reads(&self) -> bool {
        self.no_reads.load(Relaxed)
    }

    /// Whether nothing is to be written now.
    pub(super) fn no_writes(&self) -> bool {
        self.no_writes.load(Relaxed)
    }

    /// Why the store is degraded, if it is.
    pub(super) fn why(&self) -> Option<String> {
        self.state.lock().why.clone()
    }

    /// Whether the disk is well and there is no room.
    pub(super) fn lacks_room(&self) -> bool {
        self.no_room.load(Relaxed)
    }

    /// Whether there was room for another region.
    pub(super) fn found_room(&self, found: bool) {
        self.no_room.store(!found, Relaxed);
    }

    /// Something cannot be written: nothing is for a while.
    pub(super) fn write_failed(&self, what: &str, why: &dyn Display) {
        self.no_writes.store(true, Relaxed);
        self.failed(what, why);
    }

    /// The whole cache is gone for a while.
    pub(super) fn all_failed(&self, what: &str, why: &dyn Display) {
        self.no_reads.store(true, Relaxed);
        self.write_failed(what, why);
    }

    fn failed(&self, what: &str, why: &dyn Display) {
        let mut state = self.state.lock();
        if !state.has_warned {
            state.has_warned = true;
            let retry_s = self.retry_after.as_secs();
            tracing::warn!(
                "the disk cache does not work, reads go to the host: {what}: {why}; tried again every {retry_s}s"
            );
        }
        state.why = Some(format!("{what}: {why}"));
        state.retry_at = Some(Instant::now() + self.retry_after);
    }

    /// A read failed.
    pub(super) fn read_failed(&self, why: &dyn Display) {
        let failures = {
            let mut state = self.state.lock();
            state.read_failures += 1;
            state.read_failures
        };
        if failures >= READ_FAILURES_MAX {
            self.all_failed("reading", why);
        }
    }

    pub(super) fn read_succeeded(&self) {
        self.state.lock().read_failures = 0;
    }

    /// Something was written: the disk works.
    pub(super) fn write_succeeded(&self) {
        let mut state = self.state.lock();
        if state.why.take().is_some() {
            tracing::info!("the disk cache works again");
        }
    }

    /// Whether it is time to try again; from then on reads and offers are let through.
    pub(super) fn may_retry(&self) -> bool {
        let mut state = self.state.lock();
        let is_due = state.retry_at.is_some_and(|at| at <= Instant::now());
        if is_due {
            state.retry_at = None;
            state.read_failures = READ_FAILURES_MAX - 1;
        }
        is_due
    }

    pub(super) fn turn_on(&self) {
        self.no_reads.store(false, Relaxed);
        self.no_writes.store(false, Relaxed);
    }
}
