//! Taking a mount away: as root by umount2(2), else through fusermount3.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};

use crate::{
    error::MountError,
    holders,
    mountinfo::{self, MountInfo},
};

/// Attempts at a busy mount that nobody is seen to use, and the pause between two.
const BUSY_TRIES: u32 = 4;
const BUSY_PAUSE: Duration = Duration::from_millis(25);

/// How to take a mount away that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detach {
    /// Not at all: that is an error.
    IfIdle,
    /// Off the tree now; it ends when the last program lets go of it.
    Lazily,
}

/// Unmounts the wormhole mount at `path`. The mount itself is not looked at: its process may be dead.
///
/// # Errors
/// [`MountError::NotOurs`], [`MountError::Busy`], or why it could not be done.
pub fn unmount(path: &Path, how: Detach) -> Result<(), MountError> {
    let mount = find(path)?;
    detach(&mount, how)?;
    let failed = |source| MountError::Detach { path: mount.mountpoint.clone(), source };
    if mountinfo::all().map_err(failed)?.contains(&mount) {
        return Err(MountError::StillMounted { path: mount.mountpoint });
    }
    Ok(())
}

/// The wormhole mount at `path`.
fn find(path: &Path) -> Result<MountInfo, MountError> {
    let not_ours = || MountError::NotOurs { path: path.to_owned() };
    let failed = |source| MountError::Detach { path: path.to_owned(), source };
    let near = match mountinfo::resolve_parent(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_ours()),
        outcome => outcome.map_err(failed)?,
    };
    if let Some(mount) = mountinfo::at(&near).map_err(failed)? {
        return Some(mount).filter(MountInfo::is_ours).ok_or_else(not_ours);
    }
    // Perhaps a symlink to it.
    let real = near.canonicalize().map_err(|_| not_ours())?;
    mountinfo::at(&real).map_err(failed)?.filter(MountInfo::is_ours).ok_or_else(not_ours)
}

/// Takes `mount` off the tree; blocks for as long as umount(2) takes.
///
/// # Errors
/// [`MountError::Busy`], or why it could not be done.
pub fn detach(mount: &MountInfo, how: Detach) -> Result<(), MountError> {
    let mut tries = 1;
    loop {
        match detach_once(mount, how) {
            // Nobody to be seen: most often somebody who looked in just now (df, a file manager, a guard).
            Err(MountError::Busy { by, .. }) if by.0.is_empty() && tries < BUSY_TRIES => tries += 1,
            outcome => return outcome,
        }
        thread::sleep(BUSY_PAUSE);
    }
}

fn detach_once(mount: &MountInfo, how: Detach) -> Result<(), MountError> {
    let path = &mount.mountpoint;
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, how == Detach::Lazily);
    match umount2(path, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EBUSY) => Err(busy(mount)),
        Err(Errno::EPERM) => fusermount(mount, how),
        Err(error) => Err(MountError::Detach { path: path.clone(), source: error.into() }),
    }
}

fn busy(mount: &MountInfo) -> MountError {
    MountError::Busy { path: mount.mountpoint.clone(), by: holders::of(mount) }
}

fn fusermount(mount: &MountInfo, how: Detach) -> Result<(), MountError> {
    let path = &mount.mountpoint;
    let failed = |source| MountError::Detach { path: path.clone(), source };
    for program in ["fusermount3", "fusermount"] {
        let mut command = Command::new(program);
        command.arg("-u").args((how == Detach::Lazily).then_some("-z")).arg("--").arg(path);
        let output = match command.stdin(Stdio::null()).output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            outcome => outcome.map_err(failed)?,
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("busy") {
            return Err(busy(mount));
        }
        return Err(failed(io::Error::other(said.trim().to_owned())));
    }
    Err(MountError::NoFusermount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for path in
            [dir.path(), &dir.path().join("absent"), &dir.path().join("absent/below"), Path::new("/proc")]
        {
            let refused = unmount(path, Detach::Lazily).unwrap_err();
            assert!(matches!(refused, MountError::NotOurs { .. }), "{}: {refused}", path.display());
        }
    }
}
