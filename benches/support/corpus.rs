//! The files that benches read, made once and kept: `target/tmp/wormhole-benches`.
//!
//! Kept, because a host reads a file with more care for a minute after it was changed (ARCHITECTURE.md, "Identity,
//! versions, paths"): a file made by the run that reads it would show that instead.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use crate::run::{self, Scale};

/// From then on the host takes a file's version at its word.
const SETTLED_AFTER: Duration = Duration::from_secs(61);
/// Bytes written and read at once.
const BLOCK: usize = 1 << 20;

/// The folder of known files.
pub struct Corpus {
    root: PathBuf,
}

/// Files of one size in a folder of their own.
#[derive(Clone, Copy, Debug)]
pub struct Files {
    /// How many.
    pub count: usize,
    /// Bytes of each.
    pub bytes: u64,
}

impl Corpus {
    /// The folder beside the bench's own program.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open() -> io::Result<Corpus> {
        let root = run::target_folder()?.join("tmp/wormhole-benches");
        fs::create_dir_all(&root)?;
        Ok(Corpus { root })
    }

    /// The folder to serve.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One file, by its path below the root. Its pages are in the host's page cache when this returns.
    ///
    /// # Errors
    /// What the file system says: no room.
    pub fn file(&self, bytes: u64) -> io::Result<PathBuf> {
        let name = PathBuf::from(format!("file-{}KiB", bytes >> 10));
        let path = self.root.join(&name);
        if fs::metadata(&path).map_or(0, |found| found.len()) != bytes {
            write_pattern(&path, bytes)?;
        }
        warm(&path)?;
        settle(&path)?;
        Ok(name)
    }

    /// A folder of files, by its path below the root; the files are named by [`name`]. Warm as [`Corpus::file`] is.
    ///
    /// # Errors
    /// What the file system says: no room.
    pub fn folder(&self, files: Files) -> io::Result<PathBuf> {
        let folder = PathBuf::from(format!("{}-files-{}KiB", files.count, files.bytes >> 10));
        let path = self.root.join(&folder);
        fill(&path, files)?;
        settle_all(&path, files)?;
        Ok(folder)
    }

    /// A folder of `count` folders, named by [`folder_name`], of files each, as [`Corpus::folder`].
    ///
    /// # Errors
    /// What the file system says: no room.
    pub fn folders(&self, count: usize, files: Files) -> io::Result<PathBuf> {
        let folder =
            PathBuf::from(format!("{count}-folders-of-{}-files-{}KiB", files.count, files.bytes >> 10));
        let path = self.root.join(&folder);
        for at in 0..count {
            fill(&path.join(folder_name(at)), files)?;
        }
        settle_all(&path.join(folder_name(count - 1)), files)?;
        Ok(folder)
    }
}

/// Writes the files that are not there yet, and reads all once.
fn fill(folder: &Path, files: Files) -> io::Result<()> {
    let is_whole = |path: &Path| fs::metadata(path).is_ok_and(|found| found.len() == files.bytes);
    // The last one is written last.
    if !is_whole(&folder.join(name(files.count - 1))) {
        fs::create_dir_all(folder)?;
        for at in 0..files.count {
            write_pattern(&folder.join(name(at)), files.bytes)?;
        }
    }
    // Of empty files nothing is read.
    let read = if files.bytes > 0 { files.count } else { 0 };
    (0..read).try_for_each(|at| warm(&folder.join(name(at))))
}

/// Waits for the file of the folder that was written last.
fn settle_all(folder: &Path, files: Files) -> io::Result<()> {
    if files.bytes > 0 { settle(&folder.join(name(files.count - 1))) } else { Ok(()) }
}

/// The name of a folder of [`Corpus::folders`].
pub fn folder_name(at: usize) -> String {
    format!("scene {at:03}")
}

/// The name of a file of a folder.
pub fn name(at: usize) -> String {
    format!("shot.{at:04}.exr")
}

/// Reads it once, so that the host's page cache has it.
///
/// # Errors
/// What the file system says.
pub fn warm(path: &Path) -> io::Result<()> {
    io::copy(&mut File::open(path)?, &mut io::sink()).map(drop)
}

thread_local! {
    /// Inside [`settle_together`]: when the newest file so far was changed.
    static TOGETHER: Cell<Option<SystemTime>> = const { Cell::new(None) };
}

/// Makes files and waits once, for the newest of them: [`settle`] does not wait meanwhile.
///
/// # Errors
/// Of `make`.
pub fn settle_together<T, E>(make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    if TOGETHER.get().is_some() {
        return make();
    }
    TOGETHER.set(Some(SystemTime::UNIX_EPOCH));
    let made = make();
    let newest = TOGETHER.take();
    let made = made?;
    newest.into_iter().for_each(wait_for);
    Ok(made)
}

/// Waits until the host takes the file's version at its word.
///
/// # Errors
/// What the file system says.
pub fn settle(path: &Path) -> io::Result<()> {
    let changed = fs::metadata(path)?.modified()?;
    match TOGETHER.get() {
        Some(newest) => TOGETHER.set(Some(newest.max(changed))),
        None => wait_for(changed),
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a bench that waits a minute says why")]
fn wait_for(changed: SystemTime) {
    let age = SystemTime::now().duration_since(changed).unwrap_or_default();
    let left = SETTLED_AFTER.saturating_sub(age);
    // A short run shows that all works; its figures may hold that care.
    if run::is_recorded() && Scale::of_this_run() == Scale::Full && !left.is_zero() {
        eprintln!("waiting {} s: a file changed just now is read with more care", left.as_secs() + 1);
        thread::sleep(left);
    }
}

/// Writes `len` bytes that repeat nowhere near.
///
/// # Errors
/// What the file system says.
pub fn write_pattern(path: &Path, len: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let (mut state, mut left) = (0x9E37_79B9_7F4A_7C15_u64, len);
    let mut block = vec![0; usize::try_from(len).map_or(BLOCK, |len| len.clamp(8, BLOCK))];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            // xorshift64: fast, and nothing compresses it.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let now = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
        file.write_all(&block[..now])?;
        left -= now as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_files_that_settle_together_the_newest_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let [first, last] = ["first", "last"].map(|name| folder.path().join(name));
        for (path, changed) in [(&first, old), (&last, old + Duration::from_secs(5))] {
            File::create(path).unwrap().set_modified(changed).unwrap();
        }
        settle_together(|| {
            settle(&last)?;
            settle_together(|| settle(&first))?;
            assert_eq!(TOGETHER.get(), Some(old + Duration::from_secs(5)));
            io::Result::Ok(())
        })
        .unwrap();
        assert_eq!(TOGETHER.get(), None);
        let failed: io::Result<()> = settle_together(|| settle(&folder.path().join("none")));
        assert!(failed.is_err() && TOGETHER.get().is_none());
    }
}
