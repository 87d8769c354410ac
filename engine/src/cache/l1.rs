//! L1: blocks in pool memory, as many as the pool has room for.
//!
//! There is no size of its own to keep: the pool is the budget, shared with read-ahead and data in flight, and who
//! needs a slot takes it from the least useful block ([`L1::lend`]).
//!
//! Eviction order, cheapest loss first: *served* blocks (replied in full, so the kernel's page cache holds them),
//! then *fresh* ones (fetched ahead, not read yet) and *hot* ones (asked for again after they were served: the
//! kernel had dropped them). Hot blocks yield before fresh ones while they hold more than half of the cache, so a
//! scan does not push out what is read again and again, nor does that choke read-ahead. Within a queue: oldest first.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use uring::{Pool, Slot, SlotClass};

use super::{BlockKey, ContentKey};

/// A shared handle on the cache; clones are the same cache.
#[derive(Clone)]
pub struct L1 {
    pool: Pool,
    state: Arc<Mutex<State>>,
}

/// What the cache holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L1Stats {
    /// Blocks held.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks given up to make room, so far.
    pub evicted: u64,
    /// Of these, blocks that nobody had read: read-ahead for nothing.
    pub evicted_unread: u64,
}

/// Which blocks a caller may push out to get a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Only what the kernel holds too: for read-ahead, which must not push out other read-ahead.
    Served,
    /// Anything: somebody waits.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rank {
    Fresh,
    Served,
    Hot,
}

struct Entry {
    bytes: Bytes,
    rank: Rank,
    /// The turn at which it joined its queue; an older turn in a queue is a leftover.
    turn: u64,
    /// Read since its last turn; a hot block gets one more round for it.
    touched: bool,
}

#[derive(Default)]
struct State {
    blocks: HashMap<BlockKey, Entry>,
    queues: [VecDeque<(BlockKey, u64)>; 3],
    bytes: [u64; 3],
    turn: u64,
    evicted: u64,
    evicted_unread: u64,
}

impl L1 {
    /// An empty cache that lends from `pool`.
    pub fn new(pool: Pool) -> L1 {
        L1 { pool, state: Arc::default() }
    }

    /// The block's bytes, if they are here; does not count as read.
    pub fn get(&self, key: &BlockKey) -> Option<Bytes> {
        self.state.lock().blocks.get(key).map(|entry| entry.bytes.clone())
    }

    /// Tells that bytes `upto` (exclusive, from the block's start) went to a reader; the block counts as served
    /// once that is its end.
    pub fn served(&self, key: &BlockKey, upto: usize) {
        self.state.lock().served(key, upto);
    }

    /// Keeps a block; the one already here wins, since readers may hold it.
    pub fn insert(&self, key: BlockKey, bytes: Bytes) {
        self.state.lock().insert(key, bytes);
    }

    /// The blocks held of some contents. Looks through the whole cache: for rare events only.
    pub fn blocks_of(&self, content: &ContentKey) -> Vec<(BlockKey, Bytes)> {
        let state = self.state.lock();
        let of = |(key, entry): (&BlockKey, &Entry)| {
            (key.content == *content).then(|| (*key, entry.bytes.clone()))
        };
        state.blocks.iter().filter_map(of).collect()
    }

    /// Gives a block up, if it is here: its bytes are not the file's any more.
    pub fn remove(&self, key: &BlockKey) {
        let removed = self.state.lock().remove(key);
        // Outside the lock: the drop may bring a slot home to the pool.
        drop(removed);
    }

    /// A slot at once, pushing out what `pressure` allows; `None` when all memory is in use elsewhere.
    pub fn try_lend(&self, class: SlotClass, pressure: Pressure) -> Option<Slot> {
        loop {
            if let Some(slot) = self.pool.try_lend(class) {
                return Some(slot);
            }
            // Taken out under the lock, dropped outside it: the drop brings the slot home to the pool.
            let victim = self.state.lock().evict(pressure)?;
            drop(victim);
        }
    }

    /// A slot for somebody who waits: pushes out any block, then queues at the pool. The caller brings the
    /// deadline; a dropped future gives up its place.
    pub async fn lend(&self, class: SlotClass) -> Slot {
        match self.try_lend(class, Pressure::Any) {
            Some(slot) => slot,
            None => self.pool.lend(class).await,
        }
    }

    /// Gives blocks up until at most `keep_bytes` are left, and the pool's idle memory back to the system.
    pub fn shrink(&self, keep_bytes: u64) {
        loop {
            let victim = {
                let mut state = self.state.lock();
                if state.bytes.iter().sum::<u64>() <= keep_bytes {
                    break;
                }
                state.evict(Pressure::Any)
            };
            if victim.is_none() {
                break;
            }
        }
        self.pool.trim();
    }

    /// All memory that blocks and everything else in the pool may take.
    pub fn capacity_bytes(&self) -> usize {
        self.pool.capacity_bytes()
    }

    /// What the cache holds and did.
    pub fn stats(&self) -> L1Stats {
        let state = self.state.lock();
        L1Stats {
            blocks: state.blocks.len() as u64,
            bytes: state.bytes.iter().sum(),
            evicted: state.evicted,
            evicted_unread: state.evicted_unread,
        }
    }
}

impl State {
    fn insert(&mut self, key: BlockKey, bytes: Bytes) {
        if self.blocks.contains_key(&key) {
            return;
        }
        let entry = Entry { bytes, rank: Rank::Fresh, turn: 0, touched: false };
        self.bytes[Rank::Fresh as usize] += entry.bytes.len() as u64;
        self.blocks.insert(key, entry);
        self.enqueue(key);
    }

    fn served(&mut self, key: &BlockKey, upto: usize) {
        let Some(entry) = self.blocks.get_mut(key) else { return };
        if upto < entry.bytes.len() {
            return;
        }
        let next = match entry.rank {
            Rank::Fresh => Rank::Served,
            Rank::Served => Rank::Hot,
            Rank::Hot => {
                entry.touched = true;
                return;
            }
        };
        let len = entry.bytes.len() as u64;
        self.bytes[entry.rank as usize] -= len;
        self.bytes[next as usize] += len;
        entry.rank = next;
        self.enqueue(*key);
    }

    /// Puts a block at the young end of its rank's queue; its older place becomes a leftover.
    fn enqueue(&mut self, key: BlockKey) {
        self.turn += 1;
        let Some(entry) = self.blocks.get_mut(&key) else { return };
        entry.turn = self.turn;
        let queue = &mut self.queues[entry.rank as usize];
        queue.push_back((key, self.turn));
        // Leftovers sit at the old end of queues that eviction has not reached; drop them before they add up.
        if queue.len() > 2 * self.blocks.len() + 64 {
            let (blocks, rank) = (&self.blocks, entry_rank(&self.blocks, &key));
            self.queues[rank as usize]
                .retain(|(key, turn)| blocks.get(key).is_some_and(|entry| entry.turn == *turn));
        }
    }

    fn remove(&mut self, key: &BlockKey) -> Option<Bytes> {
        let entry = self.blocks.remove(key)?;
        self.bytes[entry.rank as usize] -= entry.bytes.len() as u64;
        Some(entry.bytes)
    }

    fn evict(&mut self, pressure: Pressure) -> Option<Bytes> {
        if let Some(victim) = self.pop(Rank::Served) {
            return Some(victim);
        }
        if pressure == Pressure::Served {
            return None;
        }
        let hot = self.bytes[Rank::Hot as usize];
        let fresh = self.bytes[Rank::Fresh as usize];
        let order = if hot > fresh { [Rank::Hot, Rank::Fresh] } else { [Rank::Fresh, Rank::Hot] };
        order.into_iter().find_map(|rank| self.pop(rank))
    }

    /// Takes the oldest block of a rank out.
    fn pop(&mut self, rank: Rank) -> Option<Bytes> {
        while let Some((key, turn)) = self.queues[rank as usize].pop_front() {
            let Some(entry) = self.blocks.get_mut(&key).filter(|entry| entry.turn == turn) else { continue };
            if entry.touched {
                // One more round, once: the mark is gone, so this loop ends.
                entry.touched = false;
                self.enqueue(key);
                continue;
            }
            self.evicted += 1;
            self.evicted_unread += u64::from(rank == Rank::Fresh);
            return self.remove(&key);
        }
        None
    }
}

fn entry_rank(blocks: &HashMap<BlockKey, Entry>, key: &BlockKey) -> Rank {
    blocks.get(key).map_or(Rank::Fresh, |entry| entry.rank)
}

#[cfg(test)]
mod tests;
