//! What can go: directories that nobody looks into any more, with all below them.
//!
//! The kernel gives nodes back under memory pressure alone, and that is the pressure of its own caches, not of ours. Told
//! to doubt the name of a directory it gives back all below it at once; what is open stays. So one directory is asked for
//! where its files would be a thousand.
//!
//! A search goes round all rows, as the hand of a clock: a directory that was looked into since it was last met stays.

use wire::{FileKind, Name};

use super::{
    NodeId, NodeTable,
    rows::{Mark, Row},
};

/// Nodes that a mount keeps without looking for some that can go: at 80 to 96 bytes each up to 48 MiB, which leaves the
/// mount below 200 MB with its memory for contents full.
pub const NODES_KEPT: usize = 1 << 19;

/// Rows that one step of the search looks at: about half a millisecond, in which all else waits.
const STEP_ROWS: u32 = 64 << 10;

/// Directories that one step names.
const NAMED_MAX: usize = 1024;

/// What one step of the search names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PruneStep {
    /// Directories, as entries of their parents.
    pub named: Vec<(NodeId, Name)>,
    /// Nodes just below them.
    pub below: usize,
}

/// Where the search is.
#[derive(Debug, Default)]
pub(super) struct Search {
    next: u32,
    /// The directory that was marked last, with all above it.
    marked: Option<Row>,
}

impl Search {
    /// Marks anew what is above the next directory that is looked into: the tree is another one by now.
    pub(super) fn restart(&mut self) {
        self.marked = None;
    }
}

impl NodeTable {
    /// Names directories that can go, one step of the search on, until about `nodes` nodes are below them. They are met
    /// again only after a whole round.
    pub fn prune_candidates(&mut self, nodes: usize) -> PruneStep {
        let mut step = PruneStep::default();
        self.search.restart();
        for _ in 0..STEP_ROWS.min(self.rows.room()) {
            if step.below >= nodes || step.named.len() == NAMED_MAX {
                break;
            }
            let row = Row(self.search.next);
            self.search.next = if row.0 + 1 >= self.rows.room() { 0 } else { row.0 + 1 };
            let Some(node) = self.rows.get_mut(row) else { continue };
            let is_dir = node.kind() == FileKind::Directory && !node.is(Mark::IsRoot);
            if !is_dir || node.pins == 0 {
                continue;
            }
            let (was_used, parent) = (node.is(Mark::IsUsed), Row(node.parent));
            // One that was named has a round's time to go.
            node.mark(Mark::IsUsed, !was_used);
            if !was_used && let Ok(name) = Name::new(self.rows.name(row)) {
                step.below += self.rows.get(row).map_or(0, |node| node.pins as usize);
                step.named.push((self.number(parent), name));
            }
        }
        step
    }

    /// How many steps a round of the search takes.
    pub fn prune_steps(&self) -> u32 {
        self.rows.room().div_ceil(STEP_ROWS)
    }

    /// Notes that a node is in use, and so all directories above it.
    pub fn keep(&mut self, node: NodeId) {
        if let Ok((row, _)) = self.find(node) {
            self.use_row(row);
        }
    }

    /// Notes that a directory was looked into, and so all above it.
    pub(super) fn use_row(&mut self, mut row: Row) {
        if self.search.marked.replace(row) == Some(row) {
            return;
        }
        // Ends: nothing is below itself.
        while row != Row::ROOT
            && let Some(node) = self.rows.get_mut(row)
        {
            node.mark(Mark::IsUsed, true);
            row = Row(node.parent);
        }
    }
}
