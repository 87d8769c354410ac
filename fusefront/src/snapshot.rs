//! What a mount knows of its shares, in a file of the cache's folder, for a start without the host.
//!
//! One file a ticket, named and marked by a hash of the host's key and the ticket's secret, which says all that the ticket
//! grants: a narrower ticket has another file, and cannot read this one's. The file is checked as a whole before anything of
//! it counts; what is in it counts only while the host is away. `STORAGE.md` of the engine has the format.
//!
//! It is written and read with plain file I/O on a thread that may block: a ring's operations take pool slots, which
//! are for readers, and know neither rename nor the append of a few megabytes every now and then.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FlockOperation, flock};
use wire::{
    Name, ShareId, Ticket,
    cursor::{Reader, Writer},
    limits,
    message::{ShareInfo, Welcome},
    version::PROTOCOL_VERSION,
};

use crate::vfs::known::{self, Damaged, KNOWN_BYTES_MAX, LastKnown};

/// The format, and its version.
const MAGIC: [u8; 8] = *b"whKnown\x01";
/// What the hash of a ticket is for (BLAKE3, section 2.3, key derivation).
const MARK_CONTEXT: &str = "wormhole 2026-11 mark of what a ticket's mounts know";
/// Files of this kind begin like this; a hash in hexadecimal follows.
const PREFIX: &str = "known-";
/// What is not whole yet ends like this.
const NEW: &str = ".new";
/// The hash at the end.
const HASH_BYTES: usize = 32;

/// The part of a disk cache's quota that is not for regions but for what mounts know: twice what one may write, since a
/// new file is whole before the old one goes.
pub fn reserve_bytes(quota_bytes: u64) -> u64 {
    2 * file_bytes_max(quota_bytes)
}

/// The most that all files of this kind take, what is being written apart.
fn file_bytes_max(quota_bytes: u64) -> u64 {
    (quota_bytes / 32).min(KNOWN_BYTES_MAX as u64)
}

/// The place of one ticket's file.
#[derive(Clone, Debug)]
pub struct Place {
    dir: PathBuf,
    mark: [u8; 32],
    bytes_max: u64,
}

/// What a file had.
pub struct Snapshot {
    /// The shares, with the numbers that the mount knew them by.
    pub welcome: Welcome,
    /// Their names and the rest.
    pub known: LastKnown,
    /// When it was written, by this machine's clock.
    pub written: Duration,
    /// Which file it was.
    pub file: FileNo,
}

/// One file of a file system, as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileNo(u64, u64);

/// Why there is nothing.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Nothing was written yet.
    #[error("nothing is known of the ticket's shares yet")]
    None,
    /// It is not as it was written.
    #[error("what is known in {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        #[source]
        source: Damaged,
    },
    /// It cannot be read, or not be written.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another mount writes the same file at this moment.
    #[error("another mount writes it")]
    Taken,
}

impl Place {
    /// The file of `ticket` in the folder of a cache that may take `quota_bytes`.
    pub fn new(dir: &Path, ticket: &Ticket, quota_bytes: u64) -> Place {
        let mut hasher = blake3::Hasher::new_derive_key(MARK_CONTEXT);
        hasher.update(&ticket.host_key);
        let mut claims = Writer::new();
        ticket.claims.write(&mut claims);
        hasher.update(ticket.secret.expose());
        hasher.update(claims.as_bytes());
        let mark = *hasher.finalize().as_bytes();
        Place { dir: dir.to_owned(), mark, bytes_max: file_bytes_max(quota_bytes) }
    }

    /// Memory that what is known may take, so that its file fits.
    pub fn known_bytes_max(&self) -> usize {
        // Records take less on the disk than in memory; the rest is the shares and the hash.
        usize::try_from(self.bytes_max).unwrap_or(KNOWN_BYTES_MAX).saturating_sub(16 << 10)
    }

    fn path(&self) -> PathBuf {
        let digits: String = self.mark[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(format!("{PREFIX}{digits}"))
    }

    fn failed(&self, source: io::Error) -> SnapshotError {
        SnapshotError::Io { path: self.path(), source }
    }

    /// Reads the file. Blocks for the disk.
    ///
    /// # Errors
    /// Any [`SnapshotError`].
    pub fn read(&self) -> Result<Snapshot, SnapshotError> {
        let open = File::open(self.path());
        let mut file = match open {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SnapshotError::None),
            open => open.map_err(|error| self.failed(error))?,
        };
        let damaged = |source| SnapshotError::Damaged { path: self.path(), source };
        let meta = file.metadata().map_err(|error| self.failed(error))?;
        if meta.len() > self.bytes_max {
            return Err(damaged(Damaged("its length")));
        }
        let mut bytes = Vec::new();
        Read::by_ref(&mut file)
            .take(self.bytes_max)
            .read_to_end(&mut bytes)
            .map_err(|error| self.failed(error))?;
        let (welcome, known, written) = self.parse(&bytes).map_err(damaged)?;
        Ok(Snapshot { welcome, known, written, file: FileNo(meta.dev(), meta.ino()) })
    }

    fn parse(&self, bytes: &[u8]) -> Result<(Welcome, LastKnown, Duration), Damaged> {
        let (body, hash) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(Damaged("its length"))?;
        if blake3::hash(body) != *hash {
            return Err(Damaged("its checksum"));
        }
        let mut from = Reader::new(body);
        let head = |_| Damaged("its beginning");
        if from.take(MAGIC.len(), "format").map_err(head)? != MAGIC {
            return Err(Damaged("its format, which another version of wormhole wrote"));
        }
        if from.take(self.mark.len(), "mark").map_err(head)? != self.mark {
            return Err(Damaged("its ticket"));
        }
        let written = Duration::from_secs(from.u64("time").map_err(head)?);
        let count = from.count(limits::SHARES_MAX, "shares").map_err(head)?;
        let mut shares = Vec::with_capacity(count);
        for _ in 0..count {
            shares.push(read_share(&mut from)?);
        }
        let mut known = LastKnown::new(self.known_bytes_max());
        known.read(&mut from)?;
        from.finish().map_err(|_| Damaged("its end"))?;
        Ok((Welcome { version: PROTOCOL_VERSION, session: 0, boot: 0, shares }, known, written))
    }

    /// Writes the file anew and lets it take the old one's place: `next` gives the parts of what is known, one at each
    /// call, until it says that there are no more. Blocks for the disk.
    ///
    /// # Errors
    /// [`SnapshotError::Io`], [`SnapshotError::Taken`]; the old one is there then.
    pub fn write(
        &self,
        shares: &[ShareInfo],
        next: impl FnMut(&mut Writer) -> bool,
    ) -> Result<FileNo, SnapshotError> {
        match self.try_write(shares, next) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(SnapshotError::Taken),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn try_write(
        &self,
        shares: &[ShareInfo],
        mut next: impl FnMut(&mut Writer) -> bool,
    ) -> io::Result<Option<FileNo>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let (path, mut new) = (self.path(), self.path().into_os_string());
        new.push(NEW);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&new)?;
        // Two mounts of one ticket share the file; what was left by one that died is written over.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        file.set_len(0)?;
        let mut out = Hashed { file: BufWriter::new(&file), hasher: blake3::Hasher::new(), bytes: 0 };
        let mut head = Writer::new();
        head.raw(&MAGIC);
        head.raw(&self.mark);
        // clock: shown to people.
        head.u64(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        head.count(shares.len());
        for share in shares {
            head.u16(share.id.0);
            head.short_bytes(share.name.as_bytes());
            known::write_attr(&share.root, &mut head);
        }
        out.put(head.as_bytes())?;
        let mut is_more = true;
        while is_more {
            let mut part = Writer::new();
            is_more = next(&mut part);
            out.put(part.as_bytes())?;
        }
        let (hash, bytes) = (out.hasher.finalize(), out.bytes);
        out.file.write_all(hash.as_bytes())?;
        out.file.flush()?;
        drop(out);
        if bytes + HASH_BYTES as u64 > self.bytes_max {
            fs::remove_file(&new)?;
            return Err(io::Error::other("it became longer than it may be"));
        }
        // Else a power cut could leave the name to a file without its bytes, and the old one gone.
        file.sync_data()?;
        fs::rename(&new, &path)?;
        let meta = file.metadata()?;
        self.make_room(&path)?;
        Ok(Some(FileNo(meta.dev(), meta.ino())))
    }

    /// Deletes other tickets' files, the oldest first, until all together have room.
    fn make_room(&self, ours: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        for (path, meta) in all(&self.dir)? {
            files.push((path == ours, meta.modified()?, meta.len(), path));
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, _, len, _)| len).sum();
        for (is_ours, _, len, path) in files {
            if bytes <= self.bytes_max || is_ours {
                break;
            }
            fs::remove_file(path)?;
            bytes -= len;
        }
        Ok(())
    }

    /// Which file is there now.
    pub fn file(&self) -> Option<FileNo> {
        let meta = fs::metadata(self.path()).ok()?;
        Some(FileNo(meta.dev(), meta.ino()))
    }

    /// Deletes the file: its ticket is not to be used any more.
    pub fn remove(&self) {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path().display(), %error, "what was known of a refused ticket's shares stays");
            }
            _ => {}
        }
    }
}

/// Deletes what all tickets' mounts know, in the folder of a cache.
///
/// # Errors
/// As the system has it; a folder that is not there is none.
pub fn remove_all(dir: &Path) -> io::Result<()> {
    for (path, _) in all(dir)? {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The files of this kind.
fn all(dir: &Path) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_one = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && !name.ends_with(NEW));
        if let (true, Ok(meta)) = (is_one, entry.metadata()) {
            found.push((entry.path(), meta));
        }
    }
    Ok(found)
}

fn read_share(from: &mut Reader<'_>) -> Result<ShareInfo, Damaged> {
    let broken = |_| Damaged("a share");
    let id = ShareId(from.u16("share").map_err(broken)?);
    let name = from.short_bytes(limits::NAME_BYTES_MAX, "name").map_err(broken)?;
    let name = Name::new(name).map_err(broken)?;
    Ok(ShareInfo { id, name, root: known::read_attr(from).ok_or(Damaged("a share"))? })
}

/// A file and the hash of what was put there.
struct Hashed<W: Write> {
    file: W,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests;
