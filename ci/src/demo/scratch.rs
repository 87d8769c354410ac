//! The demo's own folder: sample, mountpoint, state and logs, removed at the end.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use super::mounts;
use crate::failure::Failure;

const PREFIX: &str = "wormhole-demo-";

/// A folder of this run, removed on drop unless something is still mounted in it.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: PathBuf,
}

impl Scratch {
    /// Makes the folder under `target`, or among the system's temporary files where `shared` contains `target`: a host
    /// refuses to share its own mount, and a tree that grows while it is compared is never equal.
    pub(crate) fn make(target: &Path, shared: Option<&Path>) -> Result<Self, Failure> {
        let places = [target.to_path_buf(), env::temp_dir()];
        let place = places
            .iter()
            .filter_map(|place| fs::canonicalize(place).ok())
            .find(|place| shared.is_none_or(|shared| !place.starts_with(shared)))
            .ok_or("cannot share a folder that holds both target/ and the temporary files; name one further down")
            .map_err(str::to_owned)?;
        remove_stale(&place);
        let root = place.join(format!("{PREFIX}{}", process::id()));
        fs::create_dir(&root).map_err(|why| format!("cannot make {}: {why}", root.display()))?;
        Ok(Self { root })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// Removes what runs left that were killed before they could.
fn remove_stale(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            mounts::detach(&entry.path().join("mnt"));
            remove(&entry.path());
        }
    }
}

/// Never reaches into a mount: what is behind it belongs to someone else.
fn remove(root: &Path) {
    if mounts::any_below(root) {
        eprintln!("demo: {} is left: something is still mounted in it", root.display());
    } else if let Err(why) = fs::remove_dir_all(root) {
        eprintln!("demo: cannot remove {}: {why}", root.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_inside_what_is_shared() {
        let refused = Scratch::make(Path::new("/tmp"), Some(Path::new("/"))).unwrap_err().to_string();
        assert!(refused.contains("further down"), "{refused}");
    }

    #[test]
    fn it_goes_when_dropped() {
        let scratch = Scratch::make(&env::temp_dir(), None).unwrap();
        let root = scratch.root.clone();
        fs::write(scratch.path("file"), "x").unwrap();
        drop(scratch);
        assert!(!root.exists());
    }
}
