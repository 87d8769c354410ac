//! The state directory: the host's keys, and the lock that keeps a second host out.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::error::HostError;

const LOCK_FILE: &str = "lock";
const HOST_KEY_FILE: &str = "host.key";
/// Made at the first start: where it is, a host was started.
pub(crate) const TICKET_KEY_FILE: &str = "ticket.key";

/// An open state directory; the lock goes with it.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    lock: File,
}

impl StateDir {
    /// Makes the directory (mode 0700) if it is missing, and locks it.
    pub(crate) fn open(path: &Path) -> Result<StateDir, HostError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| HostError::State { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Who holds it is a courtesy: an unreadable file still says that someone does.
                let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(HostError::StateLocked { path: path.to_owned(), pid });
            }
            Err(errno) => return Err(failed(&lock_path)(errno.into())),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed(&lock_path))?;
        Ok(StateDir { path: path.to_owned(), lock })
    }

    /// The host's key, made at the first start.
    pub(crate) fn identity(&self) -> Result<transport::Identity, HostError> {
        transport::Identity::load_or_create(&self.path.join(HOST_KEY_FILE)).map_err(HostError::Identity)
    }

    /// The key behind every ticket's secret, made at the first start.
    pub(crate) fn ticket_key(&self) -> Result<[u8; 32], HostError> {
        let path = self.path.join(TICKET_KEY_FILE);
        let failed = |source| HostError::State { path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(bytes) => {
                bytes.try_into().map_err(|_: Vec<u8>| HostError::StateDamaged { path: path.clone() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                SystemRandom::new()
                    .fill(&mut key)
                    .map_err(|_| failed(io::Error::other("the kernel gives no random bytes")))?;
                write_private(&path, &key).map_err(failed)?;
                Ok(key)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        // By hand: a child that another thread is just starting has a copy of the descriptor, which would hold the lock a
        // little longer. An error leaves it to the descriptor.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

/// Writes a file of mode 0600 so that a reader sees all of it or none, also after a crash.
///
/// # Errors
/// The kernel's; an older file of that name is then as it was.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // What is left over is of no use; the first error is the one to tell.
        drop(std::fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_private_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/state");
        let state = StateDir::open(&path).unwrap();
        let first = state.ticket_key().unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(TICKET_KEY_FILE)), 0o600);
        drop(state);
        assert_eq!(StateDir::open(&path).unwrap().ticket_key().unwrap(), first);
    }

    #[test]
    fn a_second_host_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err();
        let pid = std::process::id();
        assert!(matches!(error, HostError::StateLocked { pid: Some(p), .. } if p == pid), "{error}");
        assert!(error.to_string().contains("--state-dir"));
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_key_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        std::fs::write(dir.path().join(TICKET_KEY_FILE), b"short").unwrap();
        assert!(matches!(state.ticket_key(), Err(HostError::StateDamaged { .. })));
        assert_eq!(std::fs::read(dir.path().join(TICKET_KEY_FILE)).unwrap(), b"short");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = StateDir::open(Path::new("/proc/nothing/here")).unwrap_err();
        assert!(matches!(error, HostError::State { .. }), "{error}");
    }
}
