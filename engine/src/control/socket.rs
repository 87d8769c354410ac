//! The socket file of a state directory, however long its path is.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

const NAME: &str = "control.sock";

/// A folder, and a short path to the socket in it: an address has 108 bytes (unix(7)), a folder's name up to 4,096.
#[derive(Debug)]
pub(super) struct Place {
    folder: File,
}

impl Place {
    pub(super) fn open(state_dir: &Path) -> io::Result<Place> {
        let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY;
        let folder = OpenOptions::new().read(true).custom_flags(flags.bits()).open(state_dir)?;
        Ok(Place { folder })
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{NAME}", self.folder.as_raw_fd()))
    }

    /// A socket of mode 0600, in place of one that a dead host left. The caller holds the state directory's lock.
    pub(super) fn listen(&self) -> io::Result<UnixListener> {
        self.remove()?;
        let listener = UnixListener::bind(self.path())?;
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Takes the socket away, if there is one.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A connection to the host of this state directory. A host that takes none in is waited for until `deadline`.
pub(super) fn connect(state_dir: &Path, deadline: Duration) -> io::Result<UnixStream> {
    let place = Place::open(state_dir)?;
    let stream: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX);
    // It bounds connect(2) as well; std's own connect has no bound.
    setsockopt(&stream, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
    let (address, until) = (UnixAddr::new(&place.path())?, Instant::now() + deadline);
    loop {
        match connect_to(stream.as_raw_fd(), &address) {
            Ok(()) | Err(Errno::EISCONN) => return Ok(stream.into()),
            // With a bound on its wait, the kernel does not go on by itself after a signal, io_uring's own among them.
            Err(Errno::EINTR) if Instant::now() < until => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_longer_than_an_address_works_and_a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200)).join("e".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        let refused = |state: &Path| connect(state, Duration::from_secs(5)).unwrap_err().kind();
        assert_eq!(refused(&deep), io::ErrorKind::NotFound);
        let place = Place::open(&deep).unwrap();
        drop(place.listen().unwrap());
        assert_eq!(refused(&deep), io::ErrorKind::ConnectionRefused, "a dead host's");
        let _listener = place.listen().unwrap();
        connect(&deep, Duration::from_secs(5)).unwrap();
        assert_eq!(deep.join(NAME).metadata().unwrap().permissions().mode() & 0o777, 0o600);
        place.remove().unwrap();
        place.remove().unwrap();
        assert_eq!(refused(&deep), io::ErrorKind::NotFound);
    }
}
