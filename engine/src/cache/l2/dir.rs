//! The directory: region files, and the locks by which processes share it.
//!
//! - `lock`: whoever creates, renames or deletes a file holds its flock, for milliseconds.
//! - `member-N`: one a process, its flock held as long as the process lives; so many are alive.
//! - `region-N`: a region; its flock is its owner's. N only rises, so that it orders the regions by age.
//! - `want`: written to by a process that has less than its share and needs room; the others look at its times.
//!
//! The kernel releases a dead process's locks, so nothing has to be cleaned up before a start.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::Errno;
use uring::{Pool, SlotClass};

use super::error::L2Error;
use super::format::BLOCK_BYTES;
use crate::cache::key::FileKey;

/// How long the directory's lock is waited for. Its holders keep it for milliseconds; one that is stopped must not
/// stop us.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(2);
/// The file of pins: 8 bytes each.
const PINS: &str = "pins";
/// Pinned files at most: their file is part of the quota's reserve.
pub const PINS_MAX: usize = 65_536;
/// Processes on one directory at most.
const MEMBERS_MAX: u32 = 1024;

/// A region file of ours; its lock goes with the last handle of `file`.
pub(super) struct RegionFile {
    pub(super) number: u64,
    pub(super) file: Arc<File>,
    pub(super) bytes: u64,
}

/// What came of asking for one more region.
pub(super) enum Growth {
    Region(RegionFile),
    /// The quota is used up.
    Full,
    /// The file system has less left than must stay free.
    Floor,
}

/// How much there may be of everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// All region files together, whoever's they are.
    pub(super) regions_bytes: u64,
    /// What the file system keeps free.
    pub(super) free_floor_bytes: u64,
}

pub(super) struct Dir {
    path: PathBuf,
    lock: File,
    /// Held for its lock.
    _member: File,
    want: File,
    want_seen: Option<SystemTime>,
    direct: bool,
}

impl Dir {
    /// Opens or makes the directory and joins its processes.
    pub(super) fn open(path: &Path, pool: &Pool, allow_direct: bool) -> Result<Dir, L2Error> {
        let failed = |source| L2Error::Dir { path: path.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(failed)?;
        let lock = private(true).open(path.join("lock")).map_err(failed)?;
        let want = private(true).open(path.join("want")).map_err(failed)?;
        let guard = locked(&lock, path)?;
        let member = join(path).map_err(failed)?;
        let direct = allow_direct && takes_direct(path, pool).map_err(failed)?;
        drop(guard);
        let want_seen = want.metadata().and_then(|meta| meta.modified()).ok();
        Ok(Dir { path: path.to_owned(), lock, _member: member, want, want_seen, direct })
    }

    /// Whether files are read and written past the page cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct
    }

    /// The region files that no living process owns, which are ours from now on; oldest first.
    pub(super) fn adopt(&self) -> Result<Vec<RegionFile>, L2Error> {
        let _guard = locked(&self.lock, &self.path)?;
        let failed = |source| L2Error::Dir { path: self.path.clone(), source };
        let mut adopted = Vec::new();
        for number in self.numbers().map_err(failed)? {
            let path = self.region_path(number);
            // A file that cannot be opened is no loss: it is one region less.
            let Ok(file) = self.region_options().open(&path) else { continue };
            if !try_lock(&file).map_err(failed)? {
                continue;
            }
            let bytes = file.metadata().map_err(failed)?.len();
            adopted.push(RegionFile { number, file: Arc::new(file), bytes });
        }
        adopted.sort_by_key(|region| region.number);
        Ok(adopted)
    }

    /// One more region file of `bytes`, if quota and floor allow.
    pub(super) fn grow(&self, bytes: u64, limits: Limits) -> io::Result<Growth> {
        let _guard = self.guard()?;
        if self.used_bytes()? + bytes > limits.regions_bytes {
            return Ok(Growth::Full);
        }
        if self.free_bytes()? < limits.free_floor_bytes.saturating_add(bytes) {
            return Ok(Growth::Floor);
        }
        let number = self.next_number()?;
        let path = self.region_path(number);
        let file = self.region_options().create_new(true).open(&path)?;
        let made = match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // The file system cannot: the region takes its blocks as it is written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
            result => result.map_err(io::Error::from),
        };
        let taken = made.and_then(|()| try_lock(&file));
        if let Err(error) = taken {
            // What failed is the reason to report; a file left behind is adopted at a later start.
            let _ = std::fs::remove_file(&path);
            return if error.kind() == io::ErrorKind::StorageFull { Ok(Growth::Floor) } else { Err(error) };
        }
        Ok(Growth::Region(RegionFile { number, file: Arc::new(file), bytes }))
    }

    /// Gives a region of ours the next number, under which nothing of it counts any more.
    pub(super) fn renew(&self, number: u64) -> io::Result<u64> {
        let _guard = self.guard()?;
        let next = self.next_number()?;
        std::fs::rename(self.region_path(number), self.region_path(next))?;
        Ok(next)
    }

    /// Deletes a region of ours.
    pub(super) fn delete(&self, number: u64) -> io::Result<()> {
        let _guard = self.guard()?;
        match std::fs::remove_file(self.region_path(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Processes that use the directory now, this one included.
    pub(super) fn live(&self) -> io::Result<u64> {
        let _guard = self.guard()?;
        let mut live = 0;
        for number in numbers(&self.path, "member-")? {
            let path = self.path.join(format!("member-{number:016x}"));
            let Ok(file) = private(false).open(&path) else { continue };
            // Ours too is held, by another handle than this one.
            if try_lock(&file)? {
                std::fs::remove_file(&path)?;
            } else {
                live += 1;
            }
        }
        Ok(live.max(1))
    }

    /// Files that are pinned, by the first half of their keys.
    pub(super) fn pins(&self) -> io::Result<HashSet<u64>> {
        match std::fs::read(self.path.join(PINS)) {
            Ok(bytes) => {
                let (numbers, _) = bytes.as_chunks::<8>();
                Ok(numbers.iter().take(PINS_MAX).map(|number| u64::from_le_bytes(*number)).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
            Err(error) => Err(error),
        }
    }

    /// Pins files or ends that, for all processes, with one write; `false`, and no file pinned, where there would be too
    /// many.
    pub(super) fn pin(&self, files: &[FileKey], is_pinned: bool) -> io::Result<bool> {
        let _guard = self.guard()?;
        let mut pins = self.pins()?;
        let mut is_changed = false;
        for FileKey(file) in files {
            is_changed |= if is_pinned { pins.insert(*file) } else { pins.remove(file) };
        }
        if pins.len() > PINS_MAX {
            return Ok(false);
        }
        if is_changed {
            let bytes: Vec<u8> = pins.iter().flat_map(|number| number.to_le_bytes()).collect();
            replace_file(&self.path, PINS, &bytes)?;
        }
        Ok(true)
    }

    /// Whether the pins may have changed since `seen`, which is brought up to date.
    ///
    /// Two changes within one tick of the file system's clock have one time: a file that is this young is read again.
    pub(super) fn pins_changed(&self, seen: &mut Option<SystemTime>) -> bool {
        const YOUNG: Duration = Duration::from_secs(2);
        let now = std::fs::metadata(self.path.join(PINS)).and_then(|meta| meta.modified()).ok();
        // clock: compared with the file's, which is the same clock.
        let is_young = now.is_some_and(|time| time.elapsed().map_or(true, |age| age < YOUNG));
        std::mem::replace(seen, now) != now || is_young
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the others for room.
    pub(super) fn want(&mut self) -> io::Result<()> {
        self.want.write_all_at(b"w", 0)?;
        self.want_seen = Some(self.want.metadata()?.modified()?);
        Ok(())
    }

    /// Whether another process asked for room since the last call.
    pub(super) fn is_wanted(&mut self) -> io::Result<bool> {
        let now = Some(self.want.metadata()?.modified()?);
        Ok(std::mem::replace(&mut self.want_seen, now) != now)
    }

    /// Bytes of all region files.
    pub(super) fn used_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        for number in self.numbers()? {
            match std::fs::metadata(self.region_path(number)) {
                Ok(meta) => bytes += meta.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// Bytes that the file system has left for us.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whether the directory was deleted, and perhaps another one made in its place.
    pub(super) fn is_gone(&self) -> bool {
        let ours = self.lock.metadata();
        let there = std::fs::metadata(self.path.join("lock"));
        match (ours, there) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) != (there.dev(), there.ino()),
            (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => false,
        }
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        numbers(&self.path, "region-")
    }

    fn next_number(&self) -> io::Result<u64> {
        Ok(self.numbers()?.into_iter().max().unwrap_or(0) + 1)
    }

    fn region_path(&self, number: u64) -> PathBuf {
        self.path.join(format!("region-{number:016x}"))
    }

    fn region_options(&self) -> OpenOptions {
        let mut options = private(false);
        if self.direct {
            options.custom_flags(OFlags::DIRECT.bits().cast_signed());
        }
        options
    }

    fn guard(&self) -> io::Result<DirGuard<'_>> {
        locked(&self.lock, &self.path).map_err(|error| match error {
            L2Error::Dir { source, .. } => source,
            other => io::Error::new(io::ErrorKind::TimedOut, other),
        })
    }
}

/// Held while files of the directory are made, renamed or deleted.
struct DirGuard<'a>(&'a File);

impl Drop for DirGuard<'_> {
    fn drop(&mut self) {
        // It fails only for a closed file, and this one is open.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

/// Whether the file's lock is ours now.
fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn locked<'a>(lock: &'a File, path: &Path) -> Result<DirGuard<'a>, L2Error> {
    let since = Instant::now();
    loop {
        match try_lock(lock) {
            Ok(true) => return Ok(DirGuard(lock)),
            Ok(false) if since.elapsed() > LOCK_WAIT_MAX => {
                return Err(L2Error::Busy { path: path.to_owned() });
            }
            Ok(false) => std::thread::sleep(LOCK_RETRY),
            Err(source) => return Err(L2Error::Dir { path: path.to_owned(), source }),
        }
    }
}

/// Takes the first member file that nobody holds.
fn join(path: &Path) -> io::Result<File> {
    for number in 0..MEMBERS_MAX {
        let file = private(true).open(path.join(format!("member-{number:016x}")))?;
        if try_lock(&file)? {
            return Ok(file);
        }
    }
    Err(io::Error::other(format!("{MEMBERS_MAX} processes use it already")))
}

/// Whether direct I/O of single blocks works here: tried, since a file system may promise it and refuse a size.
fn takes_direct(path: &Path, pool: &Pool) -> io::Result<bool> {
    // The pool is empty only when it is in use, and then its slots are as good as the next disk's.
    let Some(mut slot) = pool.try_lend(SlotClass::Page4K) else { return Ok(false) };
    let probe = path.join("probe");
    let mut options = private(true);
    options.truncate(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
    let tried = options.open(&probe).and_then(|file| {
        file.set_len(2 * BLOCK_BYTES as u64)?;
        match file.write_all_at(slot.bytes_mut(), BLOCK_BYTES as u64) {
            // A full disk still has what was written before.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            written => written?,
        }
        file.read_exact_at(slot.bytes_mut(), BLOCK_BYTES as u64)
    });
    // Gone already where the open failed.
    let _ = std::fs::remove_file(&probe);
    match tried {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        Err(error) => Err(error),
    }
}

fn private(create: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false).mode(0o600);
    options
}

/// The numbers of the files named `prefix` and sixteen hexadecimal digits.
fn numbers(path: &Path, prefix: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let digits =
            name.to_str().and_then(|name| name.strip_prefix(prefix)).filter(|digits| digits.len() == 16);
        numbers.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
    }
    Ok(numbers)
}

/// Replaces a small file as a whole, durably.
pub(super) fn replace_file(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    let mut file = private(true).truncate(true).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(new, path)
}
