//! Which mount a path is on, found without a look at the mount itself.

use std::{
    os::unix::ffi::OsStringExt,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, anyhow};

/// The index of the mount that holds `path`, and the path below its mountpoint.
///
/// # Errors
/// When it is on none of them, or goes back up within one.
pub(in super::super) fn find(path: &Path, mountpoints: &[&Path]) -> anyhow::Result<(usize, Vec<u8>)> {
    let absolute =
        std::path::absolute(path).with_context(|| format!("{} cannot be resolved", path.display()))?;
    let mut here = PathBuf::from("/");
    let mut parts = absolute.components();
    loop {
        // A symlink may lead into the middle of a mount.
        let inside = mountpoints.iter().enumerate().filter(|(_, mountpoint)| here.starts_with(mountpoint));
        if let Some((index, mountpoint)) = inside.max_by_key(|(_, mountpoint)| mountpoint.as_os_str().len()) {
            let below = here.strip_prefix(mountpoint).unwrap_or(Path::new("")).join(parts.as_path());
            if below.components().any(|part| part == Component::ParentDir) {
                return Err(anyhow!("{}: write the path without `..`", path.display()));
            }
            return Ok((index, below.into_os_string().into_vec()));
        }
        match parts.next() {
            Some(Component::Normal(name)) => {
                let next = here.join(name);
                let is_mount = mountpoints.contains(&next.as_path());
                here = if is_mount { next } else { next.canonicalize().unwrap_or(next) };
            }
            Some(Component::ParentDir) => drop(here.pop()),
            Some(_) => {}
            None => {
                return Err(anyhow!(
                    "{} is on no wormhole mount of this user (`wormhole status` lists them)",
                    path.display()
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_of_the_innermost_mount_and_links_lead_there() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (outer, inner) = (root.join("a"), root.join("a/b"));
        std::fs::create_dir_all(&inner).unwrap();
        std::os::unix::fs::symlink(&inner, root.join("link")).unwrap();
        let find = |path: &str| find(&root.join(path), &[outer.as_path()]);
        assert_eq!(find("a").unwrap(), (0, b"".to_vec()));
        assert_eq!(find("a/x/*.exr").unwrap(), (0, b"x/*.exr".to_vec()));
        assert_eq!(find("link/x").unwrap(), (0, b"b/x".to_vec()));
        assert!(find("a/../a/x").unwrap_err().to_string().contains("`..`"));
        assert!(find("c").unwrap_err().to_string().contains("no wormhole mount"));
        let two = [outer.as_path(), inner.as_path()];
        let (index, rest) = super::find(&root.join("link/x"), &two).unwrap();
        assert_eq!((index, rest), (1, b"x".to_vec()));
    }
}
