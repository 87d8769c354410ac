//! One place of a handle at which it is being read, and the pattern of the reads there.

use tokio::time::Instant;
use wire::Extent;

use super::{EXTENT_BYTES, Limits, SLACK_BYTES, WindowBudget, window::Window};

/// How near a read must come to a lone one to continue it, at least.
const NEAR_BYTES: u64 = 16 * 1024;
/// Strides that are fetched ahead at most: each is a request of its own.
const STRIDES_MAX: u64 = 64;
/// How many strides a read may be ahead of its turn: threads hand requests over in any order.
const STRIDES_SKIPPED_MAX: u64 = 4;
/// Reads in one direction beyond which more of them say nothing new.
const VOTES_MAX: i8 = 4;
/// Reads backward that make a run: one more than forward, since the kernel may swap the first two requests.
const VOTES_BACKWARD: i8 = -2;

/// Names a cursor among those of its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CursorId(pub u32);

/// Where demand takes whole extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Nowhere: only what was asked for.
    Never,
    /// Extents that begin at this byte or after it.
    From(u64),
    /// Extents that end at this byte or before it.
    Before(u64),
}

/// How a read continues a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Bytes between the read and the place it was expected at.
    pub(super) distance: u64,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
    /// By so many strides.
    Strides(u64),
}

/// A place being read.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) id: CursorId,
    /// When it was read last.
    pub(super) read_at: Instant,
    /// Reads of the handle elsewhere since then.
    pub(super) passed_by: u32,
    /// The stretch read so far.
    low: u64,
    end: u64,
    /// How far from it a read may be and still belong here.
    slack: u64,
    /// Reads onward, less reads backward.
    votes: i8,
    step: Option<Step>,
    /// The stretch of its first read: whole extents are taken outside of it alone.
    first: (u64, u64),
    window: Window,
    /// Where the window last grew.
    grown_at: u64,
    /// Asked for already: forward and strided, up to here; backward, down to here.
    asked: Option<u64>,
}

/// Reads at equal distances.
#[derive(Clone, Copy, Debug)]
struct Step {
    bytes: u64,
    /// Length and place of the last read.
    len: u64,
    at: u64,
}

impl Cursor {
    pub(super) fn new(id: CursorId, read: &Extent, budget: WindowBudget, now: Instant) -> Cursor {
        let (low, end) = (read.start.0, read.end().0);
        Cursor {
            id,
            read_at: now,
            passed_by: 0,
            low,
            end,
            slack: read.len.0.max(NEAR_BYTES),
            votes: 0,
            step: None,
            first: (low, end),
            window: Window::new(budget),
            grown_at: end,
            asked: None,
        }
    }

    /// The same for a read that was the last of several, each `bytes` after the one before.
    pub(super) fn strided(mut self, bytes: u64, limits: &Limits) -> Cursor {
        self.step = Some(Step { bytes, len: self.end - self.low, at: self.low });
        self.window.grow_to(limits.window_bytes_min);
        self
    }

    /// Whether something is fetched ahead here.
    pub(super) fn is_run(&self) -> bool {
        self.is_forward() || self.is_backward() || self.step.is_some()
    }

    fn is_forward(&self) -> bool {
        self.votes > 0
    }

    fn is_backward(&self) -> bool {
        self.votes <= VOTES_BACKWARD
    }

    /// Whether `read` goes on here, and how well it fits.
    pub(super) fn continues(&self, read: &Extent) -> Option<Match> {
        let (start, end) = (read.start.0, read.end().0);
        if let Some(step) = &self.step {
            let ahead = start.checked_sub(step.at)?;
            let strides = ahead / step.bytes;
            let on_time = ahead.is_multiple_of(step.bytes) && (1..=STRIDES_SKIPPED_MAX).contains(&strides);
            return (on_time && read.len.0 <= step.len)
                .then(|| Match { distance: strides - 1, way: Way::Strides(strides) });
        }
        let inside = start >= self.low && end <= self.end;
        let forward = (inside
            || start.abs_diff(self.end) <= self.slack && (self.votes != 0 || start > self.low))
            .then(|| Match { distance: start.abs_diff(self.end), way: Way::Forward });
        let backward = (end.abs_diff(self.low) <= self.slack && start < self.low)
            .then(|| Match { distance: end.abs_diff(self.low), way: Way::Backward });
        [forward, backward].into_iter().flatten().min_by_key(|found| found.distance)
    }

    /// Takes a read that continues.
    pub(super) fn read(&mut self, read: &Extent, found: &Match, limits: &Limits, now: Instant) {
        let (start, end) = (read.start.0, read.end().0);
        self.read_at = now;
        self.passed_by = 0;
        match found.way {
            Way::Strides(strides) => {
                if let Some(step) = &mut self.step {
                    step.at += strides * step.bytes;
                }
            }
            Way::Forward if end > self.end => self.votes = (self.votes + 1).min(VOTES_MAX),
            Way::Backward => self.votes = (self.votes - 1).max(-VOTES_MAX),
            Way::Forward => {}
        }
        let was_run = self.is_run();
        self.low = self.low.min(start);
        self.end = self.end.max(end);
        if self.votes != 0 {
            self.slack = SLACK_BYTES;
        }
        if !was_run {
            return;
        }
        self.window.shrink_to(limits.window_bytes_max);
        let front = if self.is_backward() { self.low } else { self.end };
        if self.window.lent_bytes() == 0 {
            self.window.grow_to(limits.window_bytes_min);
        } else if front.abs_diff(self.grown_at) >= self.window.bytes() / 2 {
            self.window.grow_to((self.window.bytes() * 2).min(limits.window_bytes_max));
            self.grown_at = front;
        }
    }

    /// Whether the byte at `at` is where this cursor reads.
    pub(super) fn covers(&self, at: u64) -> bool {
        (self.low..self.end).contains(&at)
    }

    pub(super) fn whole(&self) -> Whole {
        match () {
            () if self.step.is_some() => Whole::Never,
            () if self.is_forward() => Whole::From(self.first.1),
            () if self.is_backward() => Whole::Before(self.first.0),
            () => Whole::Never,
        }
    }

    pub(super) fn wants_ahead(&self, size_bytes: u64) -> bool {
        match self.step {
            Some(step) => !self.strides(&step, size_bytes).is_empty(),
            None => {
                let (from, until) = self.stretch(size_bytes);
                from < until
            }
        }
    }

    /// What to fetch now, the most urgent first.
    pub(super) fn ahead(&self, size_bytes: u64) -> Vec<Extent> {
        if let Some(step) = self.step {
            return self.strides(&step, size_bytes);
        }
        let (from, until) = self.stretch(size_bytes);
        let extent = |index| {
            let start = index * EXTENT_BYTES;
            Extent::new(start, EXTENT_BYTES.min(size_bytes - start))
        };
        match self.is_backward() {
            true => (from..until).rev().map(extent).collect(),
            false => (from..until).map(extent).collect(),
        }
    }

    /// The extents, by index, of the window that were not asked for. What the reader has passed, demand has had.
    fn stretch(&self, size_bytes: u64) -> (u64, u64) {
        let extents = size_bytes.div_ceil(EXTENT_BYTES);
        if self.is_forward() {
            let from = self.end.div_ceil(EXTENT_BYTES).max(self.asked.unwrap_or(0).div_ceil(EXTENT_BYTES));
            (from, self.end.saturating_add(self.window.bytes()).div_ceil(EXTENT_BYTES).min(extents))
        } else if self.is_backward() {
            let until = (self.low / EXTENT_BYTES).min(self.asked.unwrap_or(u64::MAX) / EXTENT_BYTES);
            (self.low.saturating_sub(self.window.bytes()) / EXTENT_BYTES, until.min(extents))
        } else {
            (0, 0)
        }
    }

    fn strides(&self, step: &Step, size_bytes: u64) -> Vec<Extent> {
        let count = (self.window.bytes() / step.len.max(1)).clamp(1, STRIDES_MAX);
        let starts = (1..=count).map_while(|n| step.at.checked_add(n * step.bytes));
        starts
            .filter(|start| self.asked.is_none_or(|asked| *start >= asked))
            .take_while(|start| *start < size_bytes)
            .map(|start| Extent::new(start, step.len.min(size_bytes - start)))
            .collect()
    }

    pub(super) fn issued(&mut self, extent: &Extent) {
        let (start, end) = (extent.start.0, extent.end().0);
        self.asked = Some(match self.asked {
            _ if self.step.is_some() => self.asked.unwrap_or(0).max(end),
            Some(asked) if self.is_backward() => asked.min(start),
            None if self.is_backward() => start,
            asked => asked.unwrap_or(0).max(end),
        });
    }

    /// A reader found nothing at `at`: half of the window, if it had been asked for.
    pub(super) fn missed(&mut self, at: u64) {
        let (first_low, first_end) = self.first;
        let was_asked = self.asked.is_some_and(|asked| match self.is_backward() {
            true => at >= asked && at < first_low / EXTENT_BYTES * EXTENT_BYTES,
            false => at < asked && at >= first_end.next_multiple_of(EXTENT_BYTES),
        });
        if was_asked {
            self.window.shrink_to(self.window.bytes() / 2);
            self.grown_at = if self.is_backward() { self.low } else { self.end };
        }
    }

    pub(super) fn rest(&mut self) {
        self.window.shrink_to(0);
    }

    pub(super) fn lent_bytes(&self) -> u64 {
        self.window.lent_bytes()
    }
}
