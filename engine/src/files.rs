//! Open files kept between requests, so that a file read in pieces is resolved once.

use std::{
    collections::HashMap,
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::{FileId, ShareId, auth::Claims, cursor::Writer};

use crate::attr::FileSystem;

/// How long a file stays open after its last use: long enough for a pause in a program, short enough that a deleted
/// file gives its space back.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(60);

/// What a session was granted, as a hash of its ticket's claims: equal grants, equal claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grant([u8; 16]);

impl Grant {
    /// The grant of `claims`. All of them, since two tickets of one number may differ in their prefix.
    pub(crate) fn of(claims: &Claims) -> Grant {
        let mut bytes = Writer::new();
        claims.write(&mut bytes);
        let mut grant = [0; 16];
        grant.copy_from_slice(&blake3::hash(bytes.as_bytes()).as_bytes()[..16]);
        Grant(grant)
    }
}

/// Whose file it is: a file opened under one grant answers to no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) grant: Grant,
    pub(crate) share: ShareId,
    pub(crate) file: FileId,
}

/// A regular file open for reading.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    pub(crate) file: Arc<File>,
    pub(crate) fs: FileSystem,
    pub(crate) pace: Arc<Pace>,
}

/// Whether the page cache answers large reads of a file quickly.
///
/// A read that must not wait for the disk may still start the kernel's read-ahead, and wait while that is handed to
/// the device: 21 ms for each 8 MiB of a cold file where `read_ahead_kb` is 8,192. The lane has no such time.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Reads that go to the ring without a try.
    skipped: AtomicU32,
}

impl Pace {
    /// A try beyond it was slow: not the scheduler's doing, whose slices are shorter.
    const SLOW: Duration = Duration::from_millis(8);
    /// Reads after a slow one that are not tried: 64 MiB in order.
    const SKIPPED: u32 = 64;

    /// Whether to try the next read.
    pub(crate) fn is_quick(&self) -> bool {
        self.skipped.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err()
    }

    /// How long a try took.
    pub(crate) fn took(&self, time: Duration) {
        if time >= Pace::SLOW {
            self.skipped.store(Pace::SKIPPED, Relaxed);
        }
    }
}

/// At most so many open files, the least recently used closed first. A file in use stays open beyond that.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    max: usize,
    entries: Mutex<HashMap<Key, Entry>>,
}

#[derive(Debug)]
struct Entry {
    open: OpenFile,
    used: Instant,
}

impl OpenFiles {
    /// A cache of at most `max` files.
    pub(crate) fn new(max: usize) -> OpenFiles {
        OpenFiles { max: max.max(1), entries: Mutex::new(HashMap::new()) }
    }

    /// The file, if it is open.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<OpenFile> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(key)?;
        entry.used = now;
        Some(entry.open.clone())
    }

    /// Keeps a file just opened. Where two requests opened it at once, the first stays and is returned.
    pub(crate) fn insert(&self, key: Key, open: OpenFile, now: Instant) -> OpenFile {
        let mut evicted = None;
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&key) {
            entry.used = now;
            return entry.open.clone();
        }
        if entries.len() >= self.max {
            // A scan of a few hundred entries, once an open, which costs more.
            // The file decides among equals, lest the map's order does, which no test can repeat.
            let oldest =
                entries.iter().min_by_key(|(key, entry)| (entry.used, key.file)).map(|(key, _)| *key);
            evicted = oldest.and_then(|oldest| entries.remove(&oldest));
        }
        entries.insert(key, Entry { open: open.clone(), used: now });
        drop(entries);
        // Outside the lock: a close may write to a disk.
        drop(evicted);
        open
    }

    /// Closes what has not been used for [`IDLE_MAX`].
    pub(crate) fn sweep(&self, now: Instant) {
        let mut closed = Vec::new();
        let mut entries = self.entries.lock();
        let idle: Vec<Key> = entries
            .iter()
            .filter(|(_, entry)| now.saturating_duration_since(entry.used) >= IDLE_MAX)
            .map(|(key, _)| *key)
            .collect();
        closed.extend(idle.iter().filter_map(|key| entries.remove(key)));
        drop(entries);
        drop(closed);
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inode: u64) -> Key {
        Key { grant: Grant([0; 16]), share: ShareId(0), file: FileId { fs: 1, inode, birth: 1 } }
    }

    fn open() -> OpenFile {
        let fs = FileSystem { id: 1, settles_after: Duration::ZERO, quick: true, tells: true };
        OpenFile { file: Arc::new(tempfile::tempfile().unwrap()), fs, pace: Arc::default() }
    }

    #[test]
    fn a_slow_try_sends_the_next_reads_to_the_ring() {
        let pace = Pace::default();
        pace.took(Pace::SLOW / 2);
        assert!(pace.is_quick());
        pace.took(Pace::SLOW);
        assert!((0..Pace::SKIPPED).all(|_| !pace.is_quick()));
        assert!(pace.is_quick(), "tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_used_goes_first() {
        let files = OpenFiles::new(2);
        let start = Instant::now(); // clock: tokio's, paused
        files.insert(key(1), open(), start);
        files.insert(key(2), open(), start + Duration::from_secs(1));
        assert!(files.get(&key(1), start + Duration::from_secs(2)).is_some());
        files.insert(key(3), open(), start + Duration::from_secs(3));
        assert!(files.get(&key(2), start).is_none());
        assert!(files.get(&key(1), start).is_some());
        assert_eq!(files.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_files_are_closed() {
        let files = OpenFiles::new(8);
        let start = Instant::now(); // clock: tokio's, paused
        let held = files.insert(key(1), open(), start);
        files.insert(key(2), open(), start + Duration::from_secs(30));
        files.sweep(start + IDLE_MAX);
        assert!(files.get(&key(1), start).is_none());
        assert!(files.get(&key(2), start).is_some());
        assert_eq!(Arc::strong_count(&held.file), 1, "only the reader still holds it");
    }

    #[tokio::test(start_paused = true)]
    async fn two_opens_at_once_share_the_first() {
        let files = OpenFiles::new(8);
        let now = Instant::now(); // clock: tokio's, paused
        let first = files.insert(key(1), open(), now);
        let second = files.insert(key(1), open(), now);
        assert!(Arc::ptr_eq(&first.file, &second.file));
        let other = Key { grant: Grant([9; 16]), ..key(1) };
        assert!(files.get(&other, now).is_none(), "another grant sees nothing of it");
    }
}
