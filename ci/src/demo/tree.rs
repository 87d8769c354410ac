//! Two trees, listed, read and compared to the byte.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::watchdog::Progress;

/// One read, as `dd` and copying programs do them.
const PIECE_BYTES: usize = 1 << 20;

/// One entry of a tree, as `lstat` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Relative to the root of the tree.
    path: PathBuf,
    kind: Kind,
    /// Permission and set-id bits.
    mode: u32,
    size_bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
    /// The sum of a file's bytes, once read.
    sum: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Symlink {
        target: OsString,
    },
    /// A device, pipe or socket: its type and mode are compared, it is not opened.
    Special {
        file_type: u32,
    },
}

/// What a tree holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    files: u64,
    folders: u64,
    symlinks: u64,
    specials: u64,
    bytes: u64,
}

impl Totals {
    /// In millions of bytes, as links and disks are rated.
    pub(super) fn megabytes(&self) -> f64 {
        self.bytes as f64 / 1e6
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files, {} folders, {} symlinks, ", self.files, self.folders, self.symlinks)?;
        if self.specials > 0 {
            write!(f, "{} special files, ", self.specials)?;
        }
        write!(f, "{} bytes", self.bytes)
    }
}

pub(super) fn totals(entries: &[Entry]) -> Totals {
    let mut totals = Totals::default();
    for entry in entries {
        match entry.kind {
            Kind::File => {
                totals.files += 1;
                totals.bytes += entry.size_bytes;
            }
            Kind::Folder => totals.folders += 1,
            Kind::Symlink { .. } => totals.symlinks += 1,
            Kind::Special { .. } => totals.specials += 1,
        }
    }
    totals
}

/// Everything below `root` and `root` itself, sorted by path; symlinks are not followed.
pub(super) fn list(root: &Path, progress: &Progress) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        progress.add(1);
        // `join` with nothing would end in a slash, which follows a symlink.
        let full = if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(&path) };
        let entry = Entry::look(&full, path).map_err(|why| format!("cannot stat {full:?}: {why}"))?;
        if entry.kind == Kind::Folder {
            for name in fs::read_dir(&full).map_err(|why| format!("cannot list {full:?}: {why}"))? {
                let name = name.map_err(|why| format!("cannot list {full:?}: {why}"))?.file_name();
                waiting.push(entry.path.join(name));
            }
        }
        entries.push(entry);
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Reads every file of `entries` below `root` and keeps the sum of its bytes.
pub(super) fn read_all(root: &Path, entries: &mut [Entry], progress: &Progress) -> Result<(), String> {
    let mut piece = vec![0; PIECE_BYTES];
    for entry in entries.iter_mut().filter(|entry| entry.kind == Kind::File) {
        let full = root.join(&entry.path);
        let mut sum = Sum::default();
        let read = File::open(&full).and_then(|mut file| {
            loop {
                let len = read_full(&mut file, &mut piece)?;
                if len == 0 {
                    return Ok(());
                }
                sum.add(&piece[..len]);
                progress.add(1);
            }
        });
        read.map_err(|why| format!("cannot read {full:?}: {why}"))?;
        entry.sum = Some(sum.0);
    }
    Ok(())
}

/// The first difference in names, types, modes, sizes, times and link targets, as an error.
pub(super) fn compare_entries(original: &[Entry], mirror: &[Entry]) -> Result<(), String> {
    let (mut ours, mut theirs) = (original.iter().peekable(), mirror.iter().peekable());
    loop {
        let (a, b) = match (ours.peek(), theirs.peek()) {
            (None, None) => return Ok(()),
            (Some(a), None) => return Err(format!("{:?} is missing on the mount", a.path)),
            (None, Some(b)) => return Err(format!("{:?} is on the mount only", b.path)),
            (Some(a), Some(b)) if a.path < b.path => {
                return Err(format!("{:?} is missing on the mount", a.path));
            }
            (Some(a), Some(b)) if a.path > b.path => {
                return Err(format!("{:?} is on the mount only", b.path));
            }
            (Some(a), Some(b)) => (a, b),
        };
        compare_entry(a, b)?;
        ours.next();
        theirs.next();
    }
}

fn compare_entry(original: &Entry, mirror: &Entry) -> Result<(), String> {
    let differs = |what: &str, a: &dyn fmt::Debug, b: &dyn fmt::Debug| {
        Err(format!("{:?} differs in {what}: {a:?} on the host, {b:?} on the mount", original.path))
    };
    if original.kind != mirror.kind {
        return differs("type or link target", &original.kind, &mirror.kind);
    }
    if original.mode != mirror.mode {
        return differs("mode", &format_args!("{:o}", original.mode), &format_args!("{:o}", mirror.mode));
    }
    if original.size_bytes != mirror.size_bytes {
        return differs("size", &original.size_bytes, &mirror.size_bytes);
    }
    if original.modified != mirror.modified {
        return differs("modification time", &original.modified, &mirror.modified);
    }
    Ok(())
}

/// The first byte that differs between the files of two trees, as an error; also where the mount's bytes are not the
/// ones its first reading gave.
pub(super) fn compare_bytes(
    original: &Path,
    mirror: &Path,
    entries: &[Entry],
    progress: &Progress,
) -> Result<(), String> {
    let (mut ours, mut theirs) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
        let open = |root: &Path| {
            let full = root.join(&entry.path);
            File::open(&full).map_err(|why| format!("cannot open {full:?}: {why}"))
        };
        let (mut a, mut b) = (open(original)?, open(mirror)?);
        let (mut sum, mut start) = (Sum::default(), 0_u64);
        loop {
            let read = |file: &mut File, piece: &mut [u8], side: &str| {
                read_full(file, piece)
                    .map_err(|why| format!("cannot read {:?} on the {side}: {why}", entry.path))
            };
            let (len_a, len_b) = (read(&mut a, &mut ours, "host")?, read(&mut b, &mut theirs, "mount")?);
            if let Some(at) = first_difference(&ours[..len_a], &theirs[..len_b]) {
                return Err(format!("{:?} differs at byte {}", entry.path, start + at as u64));
            }
            if len_a == 0 {
                break;
            }
            sum.add(&ours[..len_a]);
            start += len_a as u64;
            progress.add(1);
        }
        if entry.sum != Some(sum.0) {
            return Err(format!(
                "{:?}: the first reading through the mount gave other bytes than the host has",
                entry.path
            ));
        }
    }
    Ok(())
}

/// Where two pieces part; the end of the shorter one counts.
fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        return None;
    }
    let parted = a.iter().zip(b).position(|(a, b)| a != b);
    Some(parted.unwrap_or(a.len().min(b.len())))
}

/// Fills `piece` as far as the file goes: less means the end.
fn read_full(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match file.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(why) if why.kind() == ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(filled)
}

impl Entry {
    fn look(full: &Path, path: PathBuf) -> io::Result<Self> {
        let seen = fs::symlink_metadata(full)?;
        let kind = Kind::of(&seen, full)?;
        // The size of a special file means nothing.
        let size_bytes = if matches!(kind, Kind::Special { .. }) { 0 } else { seen.size() };
        let modified = (seen.mtime(), seen.mtime_nsec());
        Ok(Self { path, kind, mode: seen.mode() & 0o7777, size_bytes, modified, sum: None })
    }
}

impl Kind {
    fn of(seen: &Metadata, full: &Path) -> io::Result<Self> {
        let file_type = seen.file_type();
        Ok(if file_type.is_file() {
            Self::File
        } else if file_type.is_dir() {
            Self::Folder
        } else if file_type.is_symlink() {
            Self::Symlink { target: fs::read_link(full)?.into_os_string() }
        } else {
            Self::Special { file_type: seen.mode() & 0o170_000 }
        })
    }
}

/// A sum of bytes that notices what goes wrong here: pieces lost, doubled, swapped or zeroed. Fast, so that it does
/// not show in the figure; not against an adversary.
#[derive(Clone, Copy, Debug, Default)]
struct Sum(u64);

impl Sum {
    /// Every piece but a file's last is [`PIECE_BYTES`] long, so the sum does not depend on how reads were cut.
    fn add(&mut self, piece: &[u8]) {
        let mut words = piece.chunks_exact(8);
        for word in &mut words {
            self.mix(word.iter().rev().fold(0, |all, &byte| all << 8 | u64::from(byte)));
        }
        for &byte in words.remainder() {
            self.mix(u64::from(byte) | 1 << 8);
        }
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

#[cfg(test)]
mod tests;
