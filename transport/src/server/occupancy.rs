//! Who is there and what they hold: the state that all sessions of a host share, whatever it serves.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use quinn::Connection;
use tokio::sync::Semaphore;

use super::{
    ServerLimits,
    admission::{Admission, Guest},
    door::Door,
    stages::Stages,
    usage::{PathStats, Usage},
    watch::Watch,
};

/// An admitted connection, its place among those that are answered, and what holds it up.
type Live = (Connection, Arc<Guest>, Arc<Watch>);

/// The bounds of a host and how far they are used.
#[derive(Debug)]
pub(super) struct Occupancy {
    pub(super) limits: ServerLimits,
    pub(super) admission: Arc<Admission>,
    pub(super) strangers: Arc<Semaphore>,
    /// Places for mounts.
    pub(super) places: Arc<Semaphore>,
    pub(super) door: Mutex<Door>,
    /// Admitted connections by their number; as many as places are taken.
    pub(super) live: Mutex<HashMap<usize, Live>>,
    /// Mounts for whom there was no place.
    pub(super) turned_away: AtomicU64,
    pub(super) handshakes_limited: AtomicU64,
    pub(super) violations: AtomicU64,
    pub(super) stages: Stages,
}

impl Occupancy {
    pub(super) fn new(limits: ServerLimits) -> Occupancy {
        Occupancy {
            admission: Admission::new(&limits),
            strangers: Arc::new(Semaphore::new(limits.strangers_max)),
            places: Arc::new(Semaphore::new(limits.sessions_max)),
            door: Mutex::new(Door::new(&limits)),
            live: Mutex::default(),
            turned_away: AtomicU64::new(0),
            handshakes_limited: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            stages: Stages::default(),
            limits,
        }
    }

    pub(super) fn sessions(&self) -> usize {
        self.live.lock().len()
    }

    pub(super) fn usage(&self) -> Usage {
        let held = self.admission.total();
        let strangers = self.limits.strangers_max.saturating_sub(self.strangers.available_permits());
        Usage {
            sessions: self.sessions() as u64,
            strangers: strangers as u64,
            requests_in_flight: held.requests,
            requests_waiting: held.waiting,
            answer_bytes_in_flight: held.answer_bytes,
            busy_total: self.admission.busy() + self.turned_away.load(Ordering::Relaxed),
            handshakes_limited_total: self.handshakes_limited.load(Ordering::Relaxed),
            violations_total: self.violations.load(Ordering::Relaxed),
        }
    }

    pub(super) fn paths(&self) -> Vec<PathStats> {
        let live = self.live.lock();
        let path = |(connection, guest, watch): &Live| PathStats::new(connection, guest.tally(), watch);
        live.values().map(path).collect()
    }
}
