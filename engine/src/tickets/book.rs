//! The registry and the live sessions under one lock, so that a revocation misses nobody who is just coming in.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::TicketId;

use super::{Registry, file, seat::Occupant};
use crate::error::HostError;

#[derive(Debug)]
pub(crate) struct Book {
    pages: Mutex<Pages>,
    /// `None` where nothing is kept (a simulation).
    path: Option<PathBuf>,
    /// Held while the file is written, on threads that may block; never together with a wait for `pages`' holder to
    /// write.
    writing: Mutex<()>,
    /// Rings when a session ends.
    left: Notify,
}

/// What the lock guards. Nothing under it waits or writes.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) registry: Registry,
    /// By session number; as many as sessions.
    pub(super) live: BTreeMap<u64, Arc<Occupant>>,
    /// Counts changes of the registry.
    changes: u64,
    /// How many of them the file has.
    saved: u64,
}

impl Pages {
    /// To be called with each change that the file is to have.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
    }

    /// The sessions of a ticket.
    pub(super) fn sessions_of(&self, id: TicketId) -> impl Iterator<Item = &Arc<Occupant>> {
        self.live.values().filter(move |occupant| occupant.claims.id == id)
    }
}

impl Book {
    /// Without a file.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn in_memory() -> Book {
        Book { pages: Mutex::default(), path: None, writing: Mutex::new(()), left: Notify::new() }
    }

    /// The registry of a state directory.
    pub(super) fn open(state_dir: &Path) -> Result<Book, HostError> {
        let path = file::path_in(state_dir);
        let pages = Pages { registry: file::load(&path)?, ..Pages::default() };
        Ok(Book { pages: Mutex::new(pages), path: Some(path), writing: Mutex::new(()), left: Notify::new() })
    }

    /// Looks and changes; `work` must be short.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Pages) -> T) -> T {
        work(&mut self.pages.lock())
    }

    pub(super) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new("memory"))
    }

    /// Whether the file lacks something.
    pub(super) fn is_unsaved(&self) -> bool {
        let pages = self.pages.lock();
        self.path.is_some() && pages.changes != pages.saved
    }

    /// Writes the file if it lacks something. Waits for the disk.
    ///
    /// # Errors
    /// The kernel's; the file is then as it was, and the next call tries again.
    pub(super) fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        // Two writers would race for the file's name, and the older contents could win.
        let _writing = self.writing.lock();
        let (registry, changes) = {
            let pages = self.pages.lock();
            if pages.changes == pages.saved {
                return Ok(());
            }
            (pages.registry.clone(), pages.changes)
        };
        file::save(path, &registry)?;
        self.pages.lock().saved = changes;
        Ok(())
    }

    pub(super) fn leave(&self, number: u64) {
        self.pages.lock().live.remove(&number);
        self.left.notify_waiters();
    }

    pub(super) async fn vacated(&self, ids: &[TicketId]) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            // Before the look, so that nobody leaves unnoticed between the two.
            left.as_mut().enable();
            let any = self.with(|pages| ids.iter().any(|&id| pages.sessions_of(id).next().is_some()));
            if !any {
                return;
            }
            left.await;
        }
    }
}
