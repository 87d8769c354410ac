//! Read-ahead as a plain state machine: reads of one handle in, extents to fetch ahead out.
//!
//! A handle is *sequential* from its second read on if that begins about where the first one ended. The kernel's
//! own read-ahead sends its requests from several threads, so "about" means [`SLACK_BYTES`] either way. The window
//! starts at [`Limits::window_bytes_min`] and doubles each time half of it was read, up to
//! [`Limits::window_bytes_max`]. A jump ends the run: the next read is a first one again.
//!
//! Windows are whole, aligned extents of [`EXTENT_BYTES`], so that a full reply is one slice of one slot.

use wire::Extent;

/// Bytes of one fetch in a sequential run: the largest slot, the largest FUSE reply, the largest read on the wire.
pub const EXTENT_BYTES: u64 = 1024 * 1024;

/// How far a read may lie from the end of the run and still belong to it: two of the kernel's largest requests,
/// since two threads may hand them over in either order.
pub const SLACK_BYTES: u64 = 2 * EXTENT_BYTES;

/// How far ahead a handle may fetch.
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
}

/// The read-ahead state of one open handle.
#[derive(Clone, Debug)]
pub struct Readahead {
    limits: Limits,
    size_bytes: u64,
    run: Option<Run>,
}

/// A stretch read in order.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The end of its first read: extents from here on are fetched whole.
    known_at: u64,
    /// The furthest byte read.
    end: u64,
    /// Whether a second read followed the first.
    sequential: bool,
    window_bytes: u64,
    /// Where the window was last doubled.
    grown_at: u64,
    /// The first extent index not asked for yet.
    next: u64,
}

/// What a read means for fetching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// From this byte on, demand fetches whole extents; `u64::MAX` when the handle is not sequential.
    pub whole_from: u64,
    /// The read left its run: what was fetched ahead for it has lost its reader.
    pub jumped: bool,
}

impl Readahead {
    /// A fresh handle on a file of `size_bytes`.
    pub fn new(limits: Limits, size_bytes: u64) -> Readahead {
        Readahead { limits, size_bytes, run: None }
    }

    /// The file is of this size now.
    pub fn resize(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
    }

    /// Takes note of a read.
    pub fn on_read(&mut self, read: Extent) -> Advice {
        let (start, end) = (read.start.0, read.end().0.min(self.size_bytes));
        if let Some(run) = self.run.as_mut().filter(|run| run.continues_at(start)) {
            run.sequential = true;
            run.end = run.end.max(end);
            run.grow(&self.limits);
            return Advice { whole_from: run.known_at, jumped: false };
        }
        let jumped = self.run.is_some_and(|run| run.sequential);
        self.run = Some(Run {
            known_at: end,
            end,
            sequential: false,
            window_bytes: self.limits.window_bytes_min,
            grown_at: end,
            next: 0,
        });
        Advice { whole_from: u64::MAX, jumped }
    }

    /// The extents (by index) to fetch ahead now, nearest first; the same again until told of as [`issued`].
    ///
    /// [`issued`]: Readahead::issued
    pub fn ahead(&self) -> std::ops::Range<u64> {
        let Some(run) = self.run.filter(|run| run.sequential) else { return 0..0 };
        // Behind the reader nothing is fetched ahead: demand has it already.
        let from = run.next.max(run.end.div_ceil(EXTENT_BYTES));
        let until = run.end.saturating_add(run.window_bytes).min(self.size_bytes).div_ceil(EXTENT_BYTES);
        from..until.max(from)
    }

    /// The caller asked the host for the extents before `next`.
    pub fn issued(&mut self, next: u64) {
        if let Some(run) = &mut self.run {
            run.next = run.next.max(next);
        }
    }
}

impl Run {
    fn continues_at(&self, start: u64) -> bool {
        start.abs_diff(self.end) <= SLACK_BYTES
    }

    fn grow(&mut self, limits: &Limits) {
        if self.end - self.grown_at >= self.window_bytes / 2 {
            self.window_bytes = (self.window_bytes * 2).min(limits.window_bytes_max);
            self.grown_at = self.end;
        }
    }
}

#[cfg(test)]
mod tests;
