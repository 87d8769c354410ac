//! Whether a share can be mounted on a path; asked before anything is sent over the network.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    error::MountError,
    mountinfo::{self, MountInfo},
    unmount::{self, Detach},
};

/// The kernel's FUSE device.
const FUSE_DEVICE: &str = "/dev/fuse";
/// Dead mounts on top of each other that are removed at most.
const DEAD_MOUNTS_MAX: usize = 8;

/// What a path is called here: without links, as far as they can be followed past a dead mount.
pub fn name(path: &Path) -> io::Result<PathBuf> {
    let near = mountinfo::resolve_parent(path)?;
    Ok(near.canonicalize().unwrap_or(near))
}

/// Takes dead wormhole mounts off `path`: of processes that are gone, so that nobody else will. Leaves all others.
///
/// # Errors
/// When a dead one cannot be removed.
pub fn recover(path: &Path) -> Result<(), MountError> {
    let failed = |source| MountError::Mountpoint { path: path.to_owned(), source };
    for _ in 0..DEAD_MOUNTS_MAX {
        match mountinfo::at(path).map_err(failed)? {
            Some(mount) if mount.is_ours() && is_dead_mount(&mount) => {
                tracing::warn!(mountpoint = %path.display(), "removing the dead mount of a process that is gone");
                unmount::detach(&mount, Detach::Lazily)?;
            }
            _ => break,
        }
    }
    Ok(())
}

/// Whether the process of a mount is gone.
pub fn is_dead_mount(mount: &MountInfo) -> bool {
    // Attributes may be answered from the kernel's cache for a second after the death; this never is, and a mount
    // that lives answers it without its host.
    match rustix::fs::statfs(&mount.mountpoint) {
        Ok(_) => false,
        Err(error) => error == rustix::io::Errno::NOTCONN || error == rustix::io::Errno::CONNABORTED,
    }
}

/// The mountpoint's absolute path, once it is known to be an empty folder with nothing mounted on it.
///
/// # Errors
/// A [`MountError`] that says what to do.
pub fn check(path: &Path) -> Result<PathBuf, MountError> {
    let unusable = |source| MountError::Mountpoint { path: path.to_owned(), source };
    let absent = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => MountError::NoMountpoint { path: path.to_owned() },
        io::ErrorKind::NotADirectory => MountError::NotAFolder { path: path.to_owned() },
        _ => unusable(error),
    };
    // Without a look at the folder itself, which may be a dead mount.
    let near = mountinfo::resolve_parent(path).map_err(absent)?;
    let metadata = match fs::metadata(&near) {
        Err(error) if is_dead(&error) => return Err(MountError::DeadMount { path: near }),
        outcome => outcome.map_err(absent)?,
    };
    if !metadata.is_dir() {
        return Err(MountError::NotAFolder { path: near });
    }
    let path = near.canonicalize().map_err(absent)?;
    if let Some(mount) = mountinfo::at(&path).map_err(unusable)? {
        return Err(MountError::AlreadyMounted { path, fstype: mount.fstype });
    }
    let mut entries = fs::read_dir(&path).map_err(unusable)?;
    if entries.next().is_some() {
        return Err(MountError::NotEmpty { path });
    }
    Ok(path)
}

/// Whether the FUSE device is there and may be used.
///
/// # Errors
/// [`MountError::NoFuseDevice`] or [`MountError::FuseDevice`].
pub fn check_device() -> Result<(), MountError> {
    check_device_at(Path::new(FUSE_DEVICE))
}

fn check_device_at(device: &Path) -> Result<(), MountError> {
    match fs::File::options().read(true).write(true).open(device) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_absent(&error) => {
            Err(MountError::NoFuseDevice)
        }
        Err(error) => Err(MountError::FuseDevice(error)),
    }
}

/// Whether a path holds a mount whose process is gone.
pub fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ENOTCONN as i32)
}

/// A device node without a driver behind it.
fn is_absent(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(nix::errno::Errno::ENXIO as i32) || number == Some(nix::errno::Errno::ENODEV as i32)
}

/// The mountpoint as a label for the host's log, at most `max` bytes.
pub fn label(path: &Path, max: usize) -> String {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut label = format!("{host}:{}", path.as_os_str().as_bytes().escape_ascii());
    while label.len() > max {
        label.pop();
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_will_do() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check(dir.path()).unwrap(), dir.path().canonicalize().unwrap());
    }

    #[test]
    fn each_unfit_mountpoint_has_its_own_error() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        assert!(matches!(check(&absent), Err(MountError::NoMountpoint { path }) if path == absent));
        assert!(matches!(check(&absent.join("below")), Err(MountError::NoMountpoint { .. })));
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(matches!(check(&file), Err(MountError::NotAFolder { .. })));
        assert!(matches!(check(&file.join("below")), Err(MountError::NotAFolder { .. })));
        assert!(matches!(check(dir.path()), Err(MountError::NotEmpty { .. })));
        let proc = check(Path::new("/proc"));
        assert!(matches!(proc, Err(MountError::AlreadyMounted { fstype, .. }) if fstype == "proc"));
    }

    #[test]
    fn a_missing_device_is_told_from_a_forbidden_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(check_device_at(&dir.path().join("fuse")), Err(MountError::NoFuseDevice)));
        assert!(matches!(check_device_at(dir.path()), Err(MountError::FuseDevice(_))));
    }

    #[test]
    fn a_label_fits_its_bound() {
        let label = label(Path::new("/mnt/a\nb"), 255);
        assert!(label.ends_with(":/mnt/a\\nb"), "{label}");
        assert_eq!(super::label(&PathBuf::from("x".repeat(400)), 255).len(), 255);
    }
}
