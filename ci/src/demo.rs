//! `cargo ci demo`: the product's main job on this machine, proved byte by byte.
//!
//! A folder is hosted, mounted through loopback, read once against the clock and compared with the original. Whatever
//! happens, what was started is stopped, what was mounted is unmounted and what was made is removed.

mod mounts;
pub(crate) mod pair;
mod sample;
pub(crate) mod scratch;
mod tree;
pub(crate) mod watchdog;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::failure::Failure;
use crate::repo::Repo;
use crate::step;
use pair::{Binaries, Pair};
use scratch::Scratch;
use tree::Entry;

/// Hosts and mounts `folder`, or a made sample, and compares both sides.
pub(crate) fn run(repo: &Repo, folder: Option<&Path>) -> Result<(), Failure> {
    let folder = folder.map(shareable).transpose()?;
    step::setup(repo)?;
    build(repo)?;

    let scratch = Scratch::make(repo.target(), folder.as_deref())?;
    let folder = match folder {
        Some(folder) => folder,
        None => {
            let folder = scratch.path("sample");
            sample::make(&folder)
                .map_err(|why| format!("cannot make the sample {}: {why}", folder.display()))?;
            folder
        }
    };
    println!("demo: sharing {}", folder.display());
    let mut pair = Pair::start(Binaries::in_target(repo.target()), scratch, &folder)?;
    println!("demo: mounted on {}", pair.mountpoint().display());
    if let Err(failure) = show(&pair, folder) {
        return Err(pair.explain(failure));
    }
    pair.stop()?;
    println!("demo: unmounted and stopped; nothing of it is left");
    Ok(())
}

/// The two programs as [`Binaries::in_target`] finds them.
pub(crate) fn build(repo: &Repo) -> Result<(), Failure> {
    let packages = ["--package", "wormhole-engine", "--package", "wormhole-fusefront"];
    step::run(step::cargo(repo).args(["build", "--release"]).args(packages))
}

/// Both passes over the mount, and its status.
fn show(pair: &Pair, folder: PathBuf) -> Result<(), Failure> {
    let (mirror, seconds) = read_through(pair.mountpoint())?;
    let totals = tree::totals(&mirror);
    println!(
        "demo: {totals} read through the mount in {seconds:.2} s: {:.0} MB/s",
        totals.megabytes() / seconds
    );
    compare(folder, pair.mountpoint().to_path_buf(), mirror)?;
    println!("demo: every name, type, mode, size, time, link target and byte is equal on both sides");
    print!("{}", pair.status()?);
    Ok(())
}

/// The folder as both ends will name it.
fn shareable(folder: &Path) -> Result<PathBuf, Failure> {
    let found = fs::canonicalize(folder)
        .map_err(|why| format!("cannot share {}: {why}; name a folder that exists", folder.display()))?;
    if !found.is_dir() {
        return Err(format!("cannot share {}: it is not a folder; name a folder", folder.display()).into());
    }
    Ok(found)
}

/// The first pass: everything below the mountpoint, listed and read, and the seconds that took.
fn read_through(mountpoint: &Path) -> Result<(Vec<Entry>, f64), Failure> {
    let mountpoint = mountpoint.to_path_buf();
    watchdog::watched("reading through the mount", move |progress| {
        let started = Instant::now();
        let mut entries = tree::list(&mountpoint, progress)?;
        tree::read_all(&mountpoint, &mut entries, progress)?;
        Ok((entries, started.elapsed().as_secs_f64()))
    })
}

/// The second pass: both sides entry by entry and byte by byte, and against the sums of the first.
fn compare(folder: PathBuf, mountpoint: PathBuf, mirror: Vec<Entry>) -> Result<(), Failure> {
    watchdog::watched("comparing both sides", move |progress| {
        let original = tree::list(&folder, progress)?;
        tree::compare_entries(&original, &mirror)?;
        tree::compare_bytes(&folder, &mountpoint, &mirror, progress)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_can_be_shared() {
        let missing = shareable(Path::new("/nonexistent/folder")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/folder") && missing.contains("name a folder"), "{missing}");
        let file = shareable(Path::new("/proc/self/stat")).unwrap_err().to_string();
        assert!(file.contains("not a folder"), "{file}");
    }
}
