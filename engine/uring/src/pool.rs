//! The slab of the process: slots are lent from it and come home to it; an empty pool makes callers wait.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::buddy::{Buddy, EXTENT_BYTES};
use crate::class::SlotClass;
use crate::error::PoolError;
use crate::region::{Owner, Region};
use crate::slot::Slot;

/// Size of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// The memory budget: whole MiB, at least one. Address space at first; memory as it is used.
    pub capacity_bytes: usize,
    /// Free extents that [`Pool::trim`] leaves resident, so that the next burst does not fault them in again.
    pub idle_floor_bytes: usize,
}

impl PoolConfig {
    /// Free memory an idle process keeps: a third of what it may occupy in all (50 MB).
    pub const IDLE_FLOOR_BYTES: usize = 16 << 20;

    /// A pool of `capacity_bytes` with the usual floor.
    pub const fn with_capacity(capacity_bytes: usize) -> PoolConfig {
        PoolConfig { capacity_bytes, idle_floor_bytes: Self::IDLE_FLOOR_BYTES }
    }
}

/// Where the pool's bytes are at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// The budget.
    pub capacity_bytes: usize,
    /// Lent as slots, filled and shared ones included.
    pub lent_bytes: usize,
    /// In extents that were touched and not given back: an upper bound of the memory in use.
    pub resident_bytes: usize,
    /// Callers of [`Pool::lend`] that wait.
    pub waiters: usize,
}

/// A cheap handle to the slab; clones share it. The memory is unmapped when the last handle and slot are gone.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    region: Region,
    capacity_bytes: usize,
    idle_floor_extents: usize,
    state: Mutex<State>,
}

/// Everything under the one lock: no I/O and no wake-up happens while it is held.
struct State {
    buddy: Buddy,
    /// First come, first served. As long as the callers' own bounds (admission, windows) make it.
    queue: VecDeque<Waiter>,
    next_ticket: u64,
}

struct Waiter {
    ticket: u64,
    class: SlotClass,
    grant: oneshot::Sender<Slot>,
}

impl Pool {
    /// Maps the slab; its memory is taken as slots are first used.
    ///
    /// # Errors
    /// When the capacity is not a positive number of MiB, or the kernel refuses the mapping.
    pub fn new(config: PoolConfig) -> Result<Pool, PoolError> {
        let PoolConfig { capacity_bytes, idle_floor_bytes } = config;
        if capacity_bytes == 0 || !capacity_bytes.is_multiple_of(EXTENT_BYTES) {
            return Err(PoolError::Capacity { capacity_bytes });
        }
        let region =
            Region::map(capacity_bytes).map_err(|source| PoolError::Map { capacity_bytes, source })?;
        let buddy = Buddy::new(capacity_bytes / EXTENT_BYTES);
        let state = Mutex::new(State { buddy, queue: VecDeque::new(), next_ticket: 0 });
        let idle_floor_extents = idle_floor_bytes / EXTENT_BYTES;
        Ok(Pool { inner: Arc::new(Inner { region, capacity_bytes, idle_floor_extents, state }) })
    }

    /// A slot if one is free now and nobody waits for one.
    pub fn try_lend(&self, class: SlotClass) -> Option<Slot> {
        let mut state = self.inner.state.lock();
        if !state.queue.is_empty() {
            return None;
        }
        let offset = state.buddy.take(class)?;
        drop(state);
        Some(self.inner.slot(class, offset))
    }

    /// A slot, as soon as one is free.
    ///
    /// First come, first served whatever the class, so that large slots are not starved by small ones. Waits without a
    /// deadline of its own: slots come home when their holders drop them, and each holder's operation has one. A
    /// dropped future gives up its place and loses no slot.
    pub async fn lend(&self, class: SlotClass) -> Slot {
        match self.inner.lend_or_queue(class) {
            Ok(slot) => slot,
            Err(waiting) => waiting.await,
        }
    }

    /// Gives free extents above the floor back to the kernel, least recently used first; the bytes given back.
    ///
    /// For its owner to call when idle: a steady stream reuses its extents and pays no system call for them.
    pub fn trim(&self) -> usize {
        let inner = &self.inner;
        let mut given = 0;
        // Bounded by the capacity even while others lend and drop.
        for _ in 0..inner.capacity_bytes / EXTENT_BYTES {
            let Some(offset) = inner.state.lock().buddy.take_idle(inner.idle_floor_extents) else { break };
            // SAFETY: the allocator handed the whole extent to this call alone; a free extent has no loan, so no
            // operation in flight either, since those hold theirs.
            let result = unsafe { inner.region.give_back(offset, EXTENT_BYTES) };
            let mut state = inner.state.lock();
            match result {
                Ok(()) => {
                    given += EXTENT_BYTES;
                    state.buddy.chill(offset);
                }
                Err(error) => {
                    state.buddy.rewarm(offset);
                    drop(state);
                    tracing::warn!(%error, "giving idle slab memory back failed; it stays resident");
                    break;
                }
            }
        }
        // Whoever asked while an extent was in nobody's list has queued for it.
        Inner::serve(inner);
        given
    }

    /// Where the bytes are now.
    pub fn stats(&self) -> PoolStats {
        let capacity_bytes = self.inner.capacity_bytes;
        let state = self.inner.state.lock();
        PoolStats {
            capacity_bytes,
            lent_bytes: state.buddy.lent_bytes(),
            resident_bytes: capacity_bytes - state.buddy.cold_bytes(),
            waiters: state.queue.len(),
        }
    }

    /// The budget, in bytes.
    pub fn capacity_bytes(&self) -> usize {
        self.inner.capacity_bytes
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.stats()).finish()
    }
}

impl Inner {
    fn slot(self: &Arc<Self>, class: SlotClass, offset: usize) -> Slot {
        self.region.mark(offset, class.bytes(), Owner::Someone);
        Slot::new(Loan { pool: Arc::clone(self), class, offset })
    }

    fn lend_or_queue(self: &Arc<Self>, class: SlotClass) -> Result<Slot, Waiting> {
        let mut state = self.state.lock();
        if state.queue.is_empty()
            && let Some(offset) = state.buddy.take(class)
        {
            drop(state);
            return Ok(self.slot(class, offset));
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let (grant, granted) = oneshot::channel();
        state.queue.push_back(Waiter { ticket, class, grant });
        Err(Waiting { pool: Arc::clone(self), ticket, granted })
    }

    fn take_back(self: &Arc<Self>, class: SlotClass, offset: usize) {
        self.region.mark(offset, class.bytes(), Owner::Nobody);
        let mut state = self.state.lock();
        state.buddy.put_back(class, offset);
        let waited_for = !state.queue.is_empty();
        drop(state);
        if waited_for {
            self.serve();
        }
    }

    /// Lends to those who wait, in order, until the first whose class is not free.
    fn serve(self: &Arc<Self>) {
        loop {
            let (waiter, offset) = {
                let mut state = self.state.lock();
                let Some(class) = state.queue.front().map(|waiter| waiter.class) else { return };
                let Some(offset) = state.buddy.take(class) else { return };
                (state.queue.pop_front().expect("the lock is held since its front was seen"), offset)
            };
            // A waiter that left between the lock and here refuses the slot, which goes home and is lent on.
            drop(waiter.grant.send(self.slot(waiter.class, offset)));
        }
    }
}

/// A place in the queue.
struct Waiting {
    pool: Arc<Inner>,
    ticket: u64,
    granted: oneshot::Receiver<Slot>,
}

impl Future for Waiting {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        let granted = Pin::new(&mut self.granted).poll(cx);
        granted.map(|slot| slot.expect("a waiter leaves the queue with a slot, or by dropping this"))
    }
}

impl Drop for Waiting {
    /// Leaves the queue. A slot granted but not seen is in `granted` and goes home with it.
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        let Some(place) = state.queue.iter().position(|waiter| waiter.ticket == self.ticket) else { return };
        let left = state.queue.remove(place);
        drop(state);
        drop(left);
        if place == 0 {
            // The next one may want a class that is free.
            self.pool.serve();
        }
    }
}

/// The right to one range of the slab, which nobody else has; it ends when this drops.
pub(crate) struct Loan {
    pool: Arc<Inner>,
    class: SlotClass,
    offset: usize,
}

impl Loan {
    pub(crate) fn class(&self) -> SlotClass {
        self.class
    }

    /// The first of the `class().bytes()` bytes.
    pub(crate) fn address(&self) -> NonNull<u8> {
        self.pool.region.address(self.offset, self.class.bytes())
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.pool.take_back(self.class, self.offset);
    }
}

#[cfg(test)]
mod tests;
