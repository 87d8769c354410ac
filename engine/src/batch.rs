//! Several whole files of one folder in one answer: small ones, each of which would cost more to ask for than to read.
//!
//! The folder is resolved once and each file from there, under the rules of every request: inside the share, no symlink
//! followed, patterns kept, regular files alone. One that is not there as it was asked for is left out and does not
//! disturb the others. All of it runs on one thread that may wait for a disk: a hundred opens are too long for a lane.
//! Files opened here are closed again, not kept: they were read in full.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
};

use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use uring::{CachedRead, Ring, Slot, SlotClass};
use wire::{ErrorCode, FileKind, limits, message::FileWanted};

use crate::{
    attr::Look,
    disk::{Asked, Disk},
    error::Fault,
    read::{await_writer, changed},
    share::{Place, resolve},
    work::{Asker, Patience},
};

/// Files open at once for one request.
const GROUP_FILES: usize = 16;

/// What became of each file, and the bytes of the good ones one after the other.
pub(crate) struct Batch {
    pub(crate) outcomes: Vec<Result<u32, ErrorCode>>,
    pub(crate) data: Bytes,
}

impl Disk {
    /// The files' bytes, each of exactly the version asked for: compared before and after, as of a read.
    ///
    /// A dropped future ends the work with the file at hand.
    pub(crate) async fn read_files(&self, asked: &Asked, files: Vec<FileWanted>) -> Result<Batch, Fault> {
        let bytes = bytes_of(&files)?;
        let (asker, patience) = Asker::new(asked.deadline);
        let slot = match usize::try_from(bytes).ok().filter(|bytes| *bytes > 0) {
            Some(bytes) => {
                let class = SlotClass::for_len(bytes).ok_or_else(|| Fault::new(ErrorCode::Invalid))?;
                Some(self.slot(class, asked).await?)
            }
            None => None,
        };
        let (task, ring) = (asked.clone(), self.ring.clone());
        let work =
            self.work.run(asked.deadline, move || Reading::of(&task, &ring, patience)?.run(&files, slot));
        let done = asked.stalls.disk.watch(work).await;
        drop(asker);
        let (batch, cached_bytes) = done?;
        self.metrics.opens.increment(batch.outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64);
        self.metrics.cached_bytes.increment(cached_bytes);
        self.metrics.read_bytes.increment(batch.data.len() as u64);
        Ok(batch)
    }
}

/// The bytes of all files, if they may be asked for at once.
fn bytes_of(files: &[FileWanted]) -> Result<u64, Fault> {
    if files.len() > limits::FILES_MAX {
        return Err(Fault::with(ErrorCode::Invalid, format!("{} files in one request", files.len())));
    }
    let bytes = files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.version.size.0));
    bytes.filter(|bytes| *bytes <= limits::READ_BYTES_MAX).ok_or_else(|| {
        Fault::with(
            ErrorCode::Invalid,
            format!("files of more than {} bytes together", limits::READ_BYTES_MAX),
        )
    })
}

/// The files of one folder, being read.
struct Reading<'a> {
    asked: &'a Asked,
    ring: &'a Ring,
    dir: Place,
    patience: Patience,
    cached_bytes: u64,
    /// Whether some file was not in memory.
    is_cold: bool,
}

/// A file that was found as it was asked for.
struct Opened {
    file: File,
    /// Whether a write to it may be under way.
    may_be_written: bool,
}

impl<'a> Reading<'a> {
    /// Finds the folder.
    fn of(asked: &'a Asked, ring: &'a Ring, patience: Patience) -> Result<Reading<'a>, Fault> {
        let dir = asked.expected_place()?;
        match dir.look.kind() {
            Some(FileKind::Directory) => {
                Ok(Reading { asked, ring, dir, patience, cached_bytes: 0, is_cold: false })
            }
            _ => Err(Fault::new(ErrorCode::NotDirectory)),
        }
    }

    /// Nobody waits any more: going on would only keep a thread from others.
    fn check(&self) -> Result<(), Fault> {
        if self.patience.is_over() { Err(Fault::late("time to read every file")) } else { Ok(()) }
    }

    /// Reads all of them; also how many bytes were in memory.
    fn run(mut self, files: &[FileWanted], mut slot: Option<Slot>) -> Result<(Batch, u64), Fault> {
        let mut outcomes = Vec::with_capacity(files.len());
        let mut at = 0;
        for group in files.chunks(GROUP_FILES) {
            let opened = self.open_group(group)?;
            for (wanted, file) in group.iter().zip(opened) {
                self.check()?;
                let room = slot.as_mut().map_or(&mut [][..], |slot| &mut slot.bytes_mut()[at..]);
                let outcome = file.and_then(|file| self.read(&file, wanted, room));
                // What a file that failed left behind is overwritten by the next one.
                at += outcome.as_ref().map_or(0, |len| *len as usize);
                outcomes.push(outcome.map_err(|fault| fault.code));
            }
        }
        let data = slot.map_or_else(Bytes::new, |slot| slot.fill(at).freeze());
        Ok((Batch { outcomes, data }, self.cached_bytes))
    }

    /// Opens some of them. Once one was not in memory, the disk is told of all that come next, so that it need not be
    /// waited for one after the other.
    fn open_group(&self, group: &[FileWanted]) -> Result<Vec<Result<Opened, Fault>>, Fault> {
        let mut opened = Vec::with_capacity(group.len());
        for wanted in group {
            self.check()?;
            let file = self.open(wanted);
            if let (true, Ok(Opened { file, .. })) = (self.is_cold, &file) {
                // Advice: without it the read takes longer.
                let _ = fadvise(file, 0, None, Advice::WillNeed);
            }
            opened.push(file);
        }
        Ok(opened)
    }

    fn open(&self, wanted: &FileWanted) -> Result<Opened, Fault> {
        let place = self.asked.scope.entry(&self.dir, &self.asked.path, &wanted.name)?;
        let place = place.expect(Some(wanted.id))?;
        match place.look.kind() {
            Some(FileKind::Regular) => {}
            Some(FileKind::Directory) => return Err(Fault::new(ErrorCode::IsDirectory)),
            _ => return Err(Fault::new(ErrorCode::NotRegular)),
        }
        if place.look.version() != wanted.version {
            return Err(changed());
        }
        let file = resolve::open_to_read(place.fd.as_fd())?;
        Ok(Opened { file, may_be_written: place.look.may_be_written() })
    }

    /// Reads one file to its end and makes sure that it did not change meanwhile.
    fn read(&mut self, opened: &Opened, wanted: &FileWanted, room: &mut [u8]) -> Result<u32, Fault> {
        let len = usize::try_from(wanted.version.size.0).ok();
        let into = len.and_then(|len| room.get_mut(..len)).ok_or_else(|| Fault::new(ErrorCode::Invalid))?;
        if opened.may_be_written {
            await_writer(&opened.file, 0);
        }
        let mut filled = match self.ring.read_cached(&opened.file, into, 0)? {
            CachedRead::Filled(filled) => filled,
            CachedRead::Miss => 0,
        };
        self.cached_bytes += filled as u64;
        self.is_cold |= filled < into.len();
        while filled < into.len() {
            match opened.file.read_at(&mut into[filled..], filled as u64) {
                // The end, before the end that the version names.
                Ok(0) => return Err(changed()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.check()?,
                Err(error) => return Err(error.into()),
            }
        }
        if Look::at(opened.file.as_fd())?.version() != wanted.version {
            return Err(changed());
        }
        u32::try_from(filled).map_err(|_| Fault::new(ErrorCode::Invalid))
    }
}
