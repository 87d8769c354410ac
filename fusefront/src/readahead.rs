//! Read-ahead as a plain state machine: reads of one handle in, extents to fetch ahead out.
//!
//! A handle has up to [`CURSORS_MAX`] cursors, one for each place it is being read at: several threads may read one
//! handle, and a reader of textures goes back and forth between a few places. A read belongs to the cursor it
//! continues; one that continues none begins a new cursor, in place of the one least useful. What a cursor's reads
//! look like decides what is fetched for it:
//!
//! | pattern | recognised by | fetched ahead |
//! |---|---|---|
//! | forward | a second read that begins about where the first one ended | whole extents after it |
//! | backward | a third read that ends about where the one before began | whole extents before it |
//! | strided | a fourth read at the same distance from the one before, of the same length | the next reads, nothing between |
//! | anything else | | nothing |
//!
//! A window starts at [`Limits::window_bytes_min`], doubles each time half of it was read, up to
//! [`Limits::window_bytes_max`], and is halved when what was fetched had to yield before it was read. All of it but the
//! first extent is lent from the mount's [`WindowBudget`], and given back by a cursor that rests.

mod cursor;
mod window;

use tokio::time::Instant;
use wire::Extent;

pub use cursor::{CursorId, Whole};
pub(crate) use window::Window;
pub use window::WindowBudget;

use cursor::Cursor;

/// Bytes of one fetch in a run: the largest slot, the largest FUSE reply, the largest read on the wire.
pub const EXTENT_BYTES: u64 = 1024 * 1024;

/// How far a read may lie from the end of a run and still belong to it: two of the kernel's largest requests, since
/// two threads may hand them over in either order.
pub const SLACK_BYTES: u64 = 2 * EXTENT_BYTES;

/// Places of one handle that are told apart.
pub const CURSORS_MAX: usize = 16;

/// How far ahead a cursor may fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The first window of a run.
    pub window_bytes_min: u64,
    /// The largest window; whole extents.
    pub window_bytes_max: u64,
}

impl Limits {
    /// The window that keeps a path of 10 Gbit/s and 12 ms full.
    const WINDOW_BYTES_MAX: u64 = 16 * EXTENT_BYTES;

    /// Windows for a mount with `memory_bytes` for file contents: an eighth of them at most, so that several readers
    /// and what they have read fit beside each other.
    pub fn for_memory(memory_bytes: u64) -> Limits {
        let eighth = memory_bytes / 8 / EXTENT_BYTES * EXTENT_BYTES;
        let window_bytes_max = eighth.clamp(EXTENT_BYTES, Self::WINDOW_BYTES_MAX);
        Limits { window_bytes_min: window_bytes_max.min(2 * EXTENT_BYTES), window_bytes_max }
    }

    fn within(self, bytes_max: u64) -> Limits {
        let Limits { window_bytes_min, window_bytes_max } = self;
        Limits {
            window_bytes_min: window_bytes_min.min(bytes_max),
            window_bytes_max: window_bytes_max.min(bytes_max),
        }
    }
}

/// The read-ahead state of one open handle.
#[derive(Debug)]
pub struct Readahead {
    limits: Limits,
    budget: WindowBudget,
    size_bytes: u64,
    path_bytes_max: u64,
    /// At most [`CURSORS_MAX`], the one read last at the end.
    cursors: Vec<Cursor>,
    steps: Steps,
    next_id: u32,
}

/// The lone reads lately, to see whether they keep a distance.
#[derive(Clone, Copy, Debug, Default)]
struct Steps {
    start: u64,
    len: u64,
    step: u64,
    /// Reads in a row that were `step` after the one before.
    equal: u32,
}

impl Readahead {
    /// A fresh handle on a file of `size_bytes`.
    pub fn new(limits: Limits, budget: WindowBudget, size_bytes: u64) -> Readahead {
        Readahead {
            limits,
            budget,
            size_bytes,
            path_bytes_max: u64::MAX,
            cursors: Vec::new(),
            steps: Steps::default(),
            next_id: 0,
        }
    }

    /// The file is of this size now.
    pub fn resize(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
    }

    /// Windows beyond this many bytes make no sense on the path as it is.
    pub fn limit(&mut self, window_bytes_max: u64) {
        self.path_bytes_max = window_bytes_max;
    }

    /// Takes note of a read. Says which cursor has lost its reader by it: what was fetched ahead for that one and is
    /// still on its way is not wanted any more.
    pub fn on_read(&mut self, read: Extent, now: Instant) -> Option<CursorId> {
        let read = read.clip(wire::ByteLen(self.size_bytes));
        if read.len.0 == 0 {
            return None;
        }
        let limits = self.limits.within(self.path_bytes_max);
        let nearest = self.cursors.iter().enumerate();
        let nearest = nearest.filter_map(|(at, cursor)| Some((cursor.continues(&read)?, at)));
        match nearest.min_by_key(|(found, _)| found.distance) {
            Some((found, at)) => {
                let mut cursor = self.cursors.remove(at);
                cursor.read(&read, &found, &limits, now);
                self.cursors.push(cursor);
                // Lone reads among others keep no distance but by chance.
                self.steps = Steps::default();
            }
            None => {
                if let Some(dropped) = self.begin(&read, &limits, now) {
                    return Some(dropped);
                }
            }
        }
        self.forsaken()
    }

    /// From where on demand takes whole extents, for a read that was just noted.
    pub fn whole(&self, read: Extent) -> Whole {
        let of = |cursor: &&Cursor| cursor.covers(read.start.0);
        self.cursors.iter().rev().find(of).map_or(Whole::Never, Cursor::whole)
    }

    /// The cursor that was read last, and what to fetch for it now, the most urgent first; the same again until told
    /// of as [`issued`]. Whole extents of [`EXTENT_BYTES`], the last of a file perhaps shorter, but for strides.
    ///
    /// [`issued`]: Readahead::issued
    pub fn ahead(&self) -> Option<(CursorId, Vec<Extent>)> {
        let cursor = self.cursors.last()?;
        let extents = cursor.ahead(self.size_bytes);
        (!extents.is_empty()).then_some((cursor.id, extents))
    }

    /// Whether [`Readahead::ahead`] has anything to say.
    pub fn wants_ahead(&self) -> bool {
        self.cursors.last().is_some_and(|cursor| cursor.wants_ahead(self.size_bytes))
    }

    /// The caller asked the host for this one of the extents of [`Readahead::ahead`], and for all before it.
    pub fn issued(&mut self, cursor: CursorId, extent: &Extent) {
        if let Some(cursor) = self.cursors.iter_mut().find(|known| known.id == cursor) {
            cursor.issued(extent);
        }
    }

    /// A reader came to the byte at `at` and it was not there: if it was fetched ahead, it had to yield unread, and the
    /// window is more than memory holds.
    pub fn missed(&mut self, at: u64) {
        if let Some(cursor) = self.cursors.iter_mut().rev().find(|cursor| cursor.covers(at)) {
            cursor.missed(at);
        }
    }

    /// Gives back the windows of cursors that were not read since `before`.
    pub fn rest(&mut self, before: Instant) {
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.read_at < before) {
            cursor.rest();
        }
    }

    /// Bytes of windows lent to this handle.
    pub fn lent_bytes(&self) -> u64 {
        self.cursors.iter().map(Cursor::lent_bytes).sum()
    }

    /// A cursor for a read that continues none; which one had to go for it.
    fn begin(&mut self, read: &Extent, limits: &Limits, now: Instant) -> Option<CursorId> {
        let strided = self.steps.note(read);
        let id = CursorId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let cursor = Cursor::new(id, read, self.budget.clone(), now);
        let cursor = match strided {
            Some(step) => cursor.strided(step, limits),
            None => cursor,
        };
        let mut dropped = None;
        if self.cursors.len() >= CURSORS_MAX {
            // A lone read is the least useful; the list is in the order of the last read.
            let victim = self.cursors.iter().position(|cursor| !cursor.is_run()).unwrap_or(0);
            let victim = self.cursors.remove(victim);
            dropped = victim.is_run().then_some(victim.id);
        }
        self.cursors.push(cursor);
        dropped
    }

    /// Takes out a run that the handle has left: many reads of it went elsewhere since.
    fn forsaken(&mut self) -> Option<CursorId> {
        let (current, others) = self.cursors.split_last_mut()?;
        let runs = others.iter().filter(|cursor| cursor.is_run()).count() + usize::from(current.is_run());
        // Eight interleaved readers whose requests the kernel sends four at a time pass 28 reads by before a turn comes.
        let patience = u32::try_from(4 * runs + 4).unwrap_or(u32::MAX);
        for cursor in others.iter_mut() {
            cursor.passed_by += 1;
        }
        let at = others.iter().position(|cursor| cursor.is_run() && cursor.passed_by > patience)?;
        Some(self.cursors.remove(at).id)
    }
}

impl Steps {
    /// Takes note of a lone read; the distance, once three in a row kept it.
    fn note(&mut self, read: &Extent) -> Option<u64> {
        let (start, len) = (read.start.0, read.len.0);
        let step = start.checked_sub(self.start).filter(|step| *step > len && len == self.len);
        self.equal = match step {
            Some(step) if step == self.step => self.equal + 1,
            Some(_) => 1,
            None => 0,
        };
        *self = Steps { start, len, step: step.unwrap_or(0), equal: self.equal };
        (self.equal >= 3).then_some(self.step)
    }
}

#[cfg(test)]
mod tests;
