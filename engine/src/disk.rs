//! What every request to a share goes through: finding a file, opening it, looking at it.

use std::{fs::File, os::fd::AsFd, sync::Arc};

use tokio::time::Instant;
use transport::waits::Stall;
use uring::{Pool, Ring};
use wire::{Attr, ErrorCode, FileId, FileKind, SharePath};

use crate::{
    attr::Look,
    error::Fault,
    files::{Grant, Key, OpenFile, OpenFiles},
    metrics::Metrics,
    share::{Place, Scope, resolve},
    turns::Turns,
    work::Work,
};

/// The means that all sessions share.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) pool: Pool,
    pub(crate) ring: Ring,
    pub(crate) files: OpenFiles,
    pub(crate) work: Work,
    pub(crate) hashing: Turns,
    pub(crate) metrics: Metrics,
}

/// The file a request is about, and how long it may take.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) grant: Grant,
    pub(crate) scope: Arc<Scope>,
    pub(crate) path: SharePath,
    pub(crate) id: Option<FileId>,
    pub(crate) deadline: Instant,
    pub(crate) stalls: Arc<Stalls>,
}

/// What a session's requests wait for.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    /// For a buffer.
    pub(crate) memory: Stall,
    /// For the disk: what the page cache and the kernel's names do not hold.
    pub(crate) disk: Stall,
}

impl Asked {
    fn key(&self, file: FileId) -> Key {
        Key { grant: self.grant, share: self.scope.share.id, file }
    }

    /// Finds the file, whichever it is. May wait for the disk.
    pub(crate) fn place(&self) -> Result<Place, Fault> {
        self.scope.place(&self.path)
    }

    /// Finds the file and refuses another one than expected. May wait for the disk.
    pub(crate) fn expected_place(&self) -> Result<Place, Fault> {
        self.place()?.expect(self.id)
    }
}

impl Disk {
    /// The attributes of the file.
    ///
    /// A file that an open handle of the same grant keeps in use is found by its id also where its name is gone or
    /// given to another.
    pub(crate) async fn stat(&self, asked: Asked) -> Result<Attr, Fault> {
        let found = match self.place_in_memory(&asked) {
            Some(found) => found,
            None => {
                let (asked, stalls) = (asked.clone(), Arc::clone(&asked.stalls));
                stalls.disk.watch(self.work.run(asked.deadline, move || asked.place())).await
            }
        };
        let fault = match found {
            Ok(place) => match place.expect(asked.id) {
                Ok(place) => return place.attr(),
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        let by_name = matches!(fault.code, ErrorCode::NotFound | ErrorCode::Stale | ErrorCode::NotDirectory);
        let open = match asked.id.filter(|_| by_name) {
            Some(id) => self.kept(&asked, id),
            None => None,
        };
        match open {
            Some(open) => Ok(self.look(&open, asked.deadline).await?.attr(open.fs)?),
            None => Err(fault),
        }
    }

    /// The file, if it is open under this grant and the path may name it: one that moved into a hidden folder answers
    /// by the name it was opened under, while it is in use, and never by the hidden one.
    fn kept(&self, asked: &Asked, id: FileId) -> Option<OpenFile> {
        asked.scope.check(&asked.path, FileKind::Regular).ok()?;
        self.files.get(&asked.key(id), Instant::now())
    }

    /// Finds the file without waiting; `None` when that takes more than the kernel's memory.
    fn place_in_memory(&self, asked: &Asked) -> Option<Result<Place, Fault>> {
        #[cfg(feature = "testing")]
        if let Some(disk) = self.work.simulated_disk() {
            // What the kernel has in memory depends on whatever else the machine does.
            return disk.draw_cached().then(|| asked.place());
        }
        asked.scope.place_in_memory(&asked.path)
    }

    /// The file, open for reading: the one kept open, else the one at the path.
    pub(crate) async fn open(&self, asked: &Asked) -> Result<OpenFile, Fault> {
        if let Some(open) = asked.id.and_then(|id| self.kept(asked, id)) {
            return Ok(open);
        }
        let opened = match self.place_in_memory(asked) {
            Some(found) => open_regular(&found?.expect(asked.id)?),
            None => {
                let (asked, stalls) = (asked.clone(), Arc::clone(&asked.stalls));
                let open = self.work.run(asked.deadline, move || open_regular(&asked.expected_place()?));
                stalls.disk.watch(open).await
            }
        };
        let (id, open) = opened?;
        self.metrics.opens.increment(1);
        Ok(self.files.insert(asked.key(id), open, Instant::now()))
    }

    /// Looks at an open file; on this thread where that cannot wait.
    pub(crate) async fn look(&self, open: &OpenFile, deadline: Instant) -> Result<Look, Fault> {
        if open.fs.quick {
            return Ok(Look::at(open.file.as_fd())?);
        }
        let file = Arc::clone(&open.file);
        self.work.run(deadline, move || look_at(&file)).await
    }
}

pub(crate) fn look_at(file: &File) -> Result<Look, Fault> {
    Ok(Look::at(file.as_fd())?)
}

/// Opens what was found, if it holds bytes: opening a pipe or a device can block, or do something.
fn open_regular(place: &Place) -> Result<(FileId, OpenFile), Fault> {
    match place.look.kind() {
        Some(FileKind::Regular) => {}
        Some(FileKind::Directory) => return Err(Fault::new(ErrorCode::IsDirectory)),
        _ => return Err(Fault::new(ErrorCode::NotRegular)),
    }
    let file = Arc::new(resolve::open_to_read(place.fd.as_fd())?);
    Ok((place.id(), OpenFile { file, fs: place.fs, pace: Arc::default() }))
}
