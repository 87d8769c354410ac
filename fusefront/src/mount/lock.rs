//! One mount at a time on one mountpoint: held from the first look at it until the mount is in the table.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::{control, error::MountError};

/// Held while a mountpoint is checked, recovered and mounted on. The kernel lets go of it when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<Flock<fs::File>>,
}

impl Lock {
    /// For a mountpoint that there is nothing to keep others off.
    pub(super) fn none() -> Lock {
        Lock { _file: None }
    }

    /// Takes it, without waiting. Goes on without one, with a warning, where there is no place for it.
    ///
    /// # Errors
    /// [`MountError::Starting`] when another process of this user has it.
    pub(super) fn take(dir: &Path, mountpoint: &Path) -> Result<Lock, MountError> {
        let path = dir.join(name(mountpoint));
        let file = control::prepare(dir)
            .and_then(|()| fs::File::options().create(true).truncate(false).write(true).open(&path));
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, "nothing keeps a second mount off this mountpoint while it starts");
                return Ok(Lock { _file: None });
            }
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Lock { _file: Some(file) }),
            Err((_, Errno::EWOULDBLOCK)) => Err(MountError::Starting { path: mountpoint.to_owned() }),
            Err((_, error)) => {
                tracing::warn!(%error, "nothing keeps a second mount off this mountpoint while it starts");
                Ok(Lock { _file: None })
            }
        }
    }
}

/// The file stays behind, empty: to remove it would let two hold a lock of the same name.
fn name(mountpoint: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    mountpoint.hash(&mut hasher);
    format!("{:016x}.lock", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("wormhole");
        let first = Lock::take(&dir, Path::new("/mnt/a")).unwrap();
        let other = Lock::take(&dir, Path::new("/mnt/b")).unwrap();
        let refused = Lock::take(&dir, Path::new("/mnt/a")).unwrap_err();
        assert!(matches!(refused, MountError::Starting { path } if path == Path::new("/mnt/a")));
        drop((first, other));
        Lock::take(&dir, Path::new("/mnt/a")).unwrap();
    }

    #[test]
    fn without_a_place_for_it_a_mount_goes_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Lock::take(&file.path().join("below"), Path::new("/mnt")).unwrap()._file.is_none());
    }
}
