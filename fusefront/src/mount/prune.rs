//! Asks the kernel to forget directories that nobody looks into, when it knows more files than the mount keeps.
//!
//! A thread of its own: a notification waits in the kernel for the lock of its directory, which a look-up of ours holds
//! while it is answered. Nobody waits for this thread.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use fuser::{INodeNo, Notifier};

use crate::vfs::{Vfs, inode::NODES_KEPT};

/// How often it looks; a kernel on one processor makes up to 100,000 nodes known in that time, 10 MB.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What ends the thread when it is dropped.
pub(super) type Alive = mpsc::Sender<()>;

/// Starts it.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(vfs: Vfs, notifier: Notifier) -> io::Result<Alive> {
    let (alive, gone) = mpsc::channel();
    thread::Builder::new().name("wormhole-prune".to_owned()).spawn(move || {
        while gone.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            look(&vfs, &notifier);
        }
    })?;
    Ok(alive)
}

fn look(vfs: &Vfs, notifier: &Notifier) {
    let directories = vfs.prune(NODES_KEPT);
    if directories.is_empty() {
        return;
    }
    tracing::debug!(
        count = directories.len(),
        "more files are known than are kept: directories are forgotten"
    );
    for (parent, name) in directories {
        // The kernel may have forgotten it just now.
        if let Err(error) = notifier.inval_entry(INodeNo(parent.0), name.as_ref()) {
            tracing::trace!(%error, "the kernel kept a directory");
        }
    }
}
