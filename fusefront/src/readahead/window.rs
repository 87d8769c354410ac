//! Windows are lent: all cursors of a mount share one budget.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::EXTENT_BYTES;

/// Bytes that read-ahead windows of one mount may take together, beside one extent for each cursor; clones are the
/// same budget.
#[derive(Clone, Debug)]
pub struct WindowBudget(Arc<AtomicU64>);

impl WindowBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> WindowBudget {
        WindowBudget(Arc::new(AtomicU64::new(bytes)))
    }

    /// Half of the memory for file contents: the other half is what was read, and demand in flight.
    pub fn for_memory(memory_bytes: u64) -> WindowBudget {
        WindowBudget::new(memory_bytes / 2)
    }

    /// What is not lent.
    pub fn free_bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |free| free.checked_sub(bytes)).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.0.fetch_add(bytes, Relaxed);
    }
}

/// One cursor's window. Never less than an extent; what is more is lent, and goes home with it.
#[derive(Debug)]
pub(crate) struct Window {
    budget: WindowBudget,
    lent_bytes: u64,
}

impl Window {
    pub(crate) fn new(budget: WindowBudget) -> Window {
        Window { budget, lent_bytes: 0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        EXTENT_BYTES + self.lent_bytes
    }

    pub(crate) fn lent_bytes(&self) -> u64 {
        self.lent_bytes
    }

    /// Grows to `bytes` if the budget has that much; else stays as it is.
    pub(crate) fn grow_to(&mut self, bytes: u64) {
        let more = bytes.saturating_sub(self.bytes());
        if more > 0 && self.budget.take(more) {
            self.lent_bytes += more;
        }
    }

    /// Gives back what is above `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        let keep = bytes.saturating_sub(EXTENT_BYTES).min(self.lent_bytes);
        self.budget.give(self.lent_bytes - keep);
        self.lent_bytes = keep;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}
