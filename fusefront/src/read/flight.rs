//! Single flight: one fetch a block, however many readers wait for it.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use engine::cache::BlockKey;
use parking_lot::Mutex;
use tokio::{sync::oneshot, task::AbortHandle};

use super::spent::Transit;
use crate::{error::VfsError, readahead::CursorId};

/// For whom a block was fetched ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AheadFor {
    /// One place of one reader.
    Cursor { reader: ReaderId, cursor: CursorId },
    /// A folder being read file by file.
    Scan(ScanId),
}

/// One folder being read file by file, by the caller's number of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanId(pub u64);

/// One open file.
pub(super) type ReaderId = u64;

/// The outcome of a fetch, to each who waits for it.
pub(super) type Outcome = Result<Landed, VfsError>;

/// A block that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Landed {
    pub(super) bytes: Bytes,
    /// When it was fetched; `None` where it was here already.
    pub(super) transit: Option<Transit>,
}

/// Fetches under way. Bounded by the slots they hold or wait for: at most one a slot of the pool, and the demand
/// reads that the kernel lets through at once.
#[derive(Clone, Default)]
pub(super) struct Flights(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    flights: HashMap<BlockKey, Flight>,
    next: u64,
}

struct Flight {
    /// Tells this fetch from a later one of the same block.
    serial: u64,
    /// The place it was fetched ahead for; `None` once somebody asked for the bytes.
    ahead_for: Option<AheadFor>,
    waiters: Vec<oneshot::Sender<Outcome>>,
    abort: Option<AbortHandle>,
}

/// What a reader found.
pub(super) enum Found {
    /// In the cache.
    Cached(Bytes),
    /// On its way.
    Joined(oneshot::Receiver<Outcome>),
}

/// What a reader found or has to bring himself.
pub(super) enum Opened {
    /// It was there.
    Found(Found),
    /// It was not: whoever asked fetches it, and waits like all others.
    Ours(Landing, oneshot::Receiver<Outcome>),
}

/// The right and duty to fetch a block. Dropped without [`Landing::land`] (the task was aborted, or panicked), it
/// takes the flight off the table, and who waits sees his channel close.
pub(super) struct Landing {
    flights: Flights,
    key: BlockKey,
    serial: u64,
}

impl Flights {
    /// Looks for a block among `cached` and the fetches under way, in this order and as one step, so that a block
    /// cannot land in between and be fetched twice.
    pub(super) fn find(
        &self,
        key: &BlockKey,
        cached: impl FnOnce(&BlockKey) -> Option<Bytes>,
    ) -> Option<Found> {
        self.0.lock().find(key, cached)
    }

    /// As [`Flights::find`], and opens a flight for the caller where there is none, in the same step.
    pub(super) fn find_or_open(
        &self,
        key: BlockKey,
        cached: impl FnOnce(&BlockKey) -> Option<Bytes>,
    ) -> Opened {
        let mut state = self.0.lock();
        if let Some(found) = state.find(&key, cached) {
            return Opened::Found(found);
        }
        let (reply, outcome) = oneshot::channel();
        let serial = state.open(key, None, vec![reply]);
        Opened::Ours(Landing { flights: self.clone(), key, serial }, outcome)
    }

    /// Whether the block is on its way.
    pub(super) fn contains(&self, key: &BlockKey) -> bool {
        self.0.lock().flights.contains_key(key)
    }

    /// Opens a flight ahead of any reader; `None` when the block is on its way already.
    pub(super) fn open_ahead(&self, key: BlockKey, ahead_for: AheadFor) -> Option<Landing> {
        let mut state = self.0.lock();
        if state.flights.contains_key(&key) {
            return None;
        }
        let serial = state.open(key, Some(ahead_for), Vec::new());
        Some(Landing { flights: self.clone(), key, serial })
    }

    /// Gives the flight the means to be called off. Too late for one that has landed: then it does nothing.
    pub(super) fn on_abort(&self, key: &BlockKey, abort: AbortHandle) {
        if let Some(flight) = self.0.lock().flights.get_mut(key) {
            flight.abort = Some(abort);
        }
    }

    /// Calls off what was fetched ahead for whom `lost` says and nobody has joined; how many.
    pub(super) fn cancel(&self, lost: impl Fn(&AheadFor) -> bool) -> u64 {
        let mut aborts = Vec::new();
        self.0.lock().flights.retain(|_, flight| {
            let dead = flight.ahead_for.as_ref().is_some_and(&lost) && flight.abort.is_some();
            if dead {
                aborts.extend(flight.abort.take());
            }
            !dead
        });
        // Outside the lock: an abort may drop the task at once, and its landing with it.
        for abort in &aborts {
            abort.abort();
        }
        aborts.len() as u64
    }
}

impl State {
    fn find(&mut self, key: &BlockKey, cached: impl FnOnce(&BlockKey) -> Option<Bytes>) -> Option<Found> {
        if let Some(bytes) = cached(key) {
            return Some(Found::Cached(bytes));
        }
        let flight = self.flights.get_mut(key)?;
        let (reply, outcome) = oneshot::channel();
        flight.ahead_for = None;
        flight.waiters.push(reply);
        Some(Found::Joined(outcome))
    }

    fn open(
        &mut self,
        key: BlockKey,
        ahead_for: Option<AheadFor>,
        waiters: Vec<oneshot::Sender<Outcome>>,
    ) -> u64 {
        self.next += 1;
        let serial = self.next;
        self.flights.insert(key, Flight { serial, ahead_for, waiters, abort: None });
        serial
    }
}

impl Landing {
    /// Whether somebody waits for the block.
    pub(super) fn is_awaited(&self) -> bool {
        let state = self.flights.0.lock();
        state.flights.get(&self.key).is_some_and(|flight| flight.ahead_for.is_none())
    }

    /// Ends the flight: `keep` runs first (the cache takes the block), then all who wait are told.
    pub(super) fn land(self, outcome: &Outcome, keep: impl FnOnce(BlockKey, &Bytes)) {
        if let Ok(Landed { bytes, .. }) = outcome {
            keep(self.key, bytes);
        }
        for waiter in self.take() {
            // Who stopped waiting needs no answer.
            let _ = waiter.send(outcome.clone());
        }
    }

    fn take(&self) -> Vec<oneshot::Sender<Outcome>> {
        let mut state = self.flights.0.lock();
        let ours = state.flights.get(&self.key).is_some_and(|flight| flight.serial == self.serial);
        if !ours {
            return Vec::new();
        }
        state.flights.remove(&self.key).map(|flight| flight.waiters).unwrap_or_default()
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.take();
    }
}

#[cfg(test)]
mod tests;
