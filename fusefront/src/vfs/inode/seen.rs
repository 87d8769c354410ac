//! Walking the table piece by piece.

use wire::FileKind;

use super::{
    NodeId, NodeTable,
    rows::{Mark, Row},
};

/// Rows that one step looks at: what is done with each of them takes about a microsecond, in which all else waits.
const STEP_ROWS: u32 = 2048;

impl NodeTable {
    /// The regular files among the rows of one step, those known to be a file of the host's, and where the next step
    /// begins; `None` at the end. A walk starts at 0, and may miss nodes that come meanwhile.
    pub fn files_from(&self, from: u32) -> (Vec<NodeId>, Option<u32>) {
        let end = self.rows.room().min(from.saturating_add(STEP_ROWS));
        let is_file = |row: &Row| {
            let node = self.rows.get(*row);
            node.is_some_and(|node| node.kind() == FileKind::Regular && node.is(Mark::HasId))
        };
        let files = (from..end).map(Row).filter(is_file).map(|row| self.number(row)).collect();
        (files, (end < self.rows.room()).then_some(end))
    }
}
