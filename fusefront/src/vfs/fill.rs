//! Small files that the kernel is given with their open: who opens one reads it next, and need not ask for it.
//!
//! The kernel takes the pages with FUSE_NOTIFY_STORE, which waits for the lock of each page. A page is locked for as long
//! as a read of it is unanswered, and a thread that waits here answers none. So a file is filled only by an open that is
//! the only one of its node, and no other open of that node is answered before the pages are there: until then nobody
//! can read, and no page is locked.

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use wire::Extent;

use super::{Vfs, handle::HandleId, inode::NodeId, scan::SMALL_BYTES_MAX};
use crate::{error::VfsError, read::content::Served};

/// Nodes that are being filled: at most one for each thread that answers the kernel.
#[derive(Default)]
pub(super) struct Filling {
    nodes: Mutex<HashSet<NodeId>>,
    ended: Notify,
}

impl Filling {
    /// Whether opens of this node have to wait.
    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.nodes.lock().contains(&node)
    }

    pub(super) fn begin(&self, node: NodeId) {
        self.nodes.lock().insert(node);
    }

    fn end(&self, node: NodeId) {
        self.nodes.lock().remove(&node);
        self.ended.notify_waiters();
    }

    /// Waits until the node is not being filled: the length of one system call.
    pub(super) async fn wait(&self, node: NodeId, deadline: Instant) -> Result<(), VfsError> {
        loop {
            let ended = self.ended.notified();
            if !self.contains(node) {
                return Ok(());
            }
            timeout_at(deadline, ended).await.map_err(|_| VfsError::Deadline)?;
        }
    }
}

impl Vfs {
    /// Gives the kernel all of a small file, if memory has it. What comes of it is dropped once the open is answered:
    /// then it is hashed. Ends what [`Filling::begin`] began.
    pub(super) fn fill(&self, node: NodeId, handle: HandleId) -> Option<Served> {
        let filled = self.try_fill(node, handle);
        if let (Some(_), Ok(file)) = (&filled, self.file(handle)) {
            file.note_dropped();
        }
        self.0.filling.end(node);
        filled
    }

    fn try_fill(&self, node: NodeId, handle: HandleId) -> Option<Served> {
        let reader = self.file(handle).ok()?.reader.clone();
        let size = reader.content().current()?.size;
        if size.0 == 0 || size.0 > SMALL_BYTES_MAX {
            return None;
        }
        let kernel = self.0.kernel.get()?;
        let served = self.0.reads.read_cached(&reader, Extent::new(0, size.0))?;
        kernel.store(node, &served).then_some(())?;
        self.0.stats.filled_files.add(1);
        self.count_read(&served);
        Some(served)
    }
}
