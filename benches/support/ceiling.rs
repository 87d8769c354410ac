//! What this machine gives without us: loopback UDP, and a FUSE mount that passes through.

use std::{
    fs,
    io::{self, Error},
    net::UdpSocket,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The largest datagram of IPv4, which loopback carries whole.
const DATAGRAM: usize = 65_507;
/// Datagrams on their way at most: what a socket's default buffer holds.
const WINDOW: u64 = 2;
/// For one datagram or its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time of so many bytes through two UDP sockets on loopback, in the largest datagrams, none lost: each is answered,
/// and few are on their way.
///
/// # Errors
/// Of the sockets.
pub fn loopback_udp(bytes: u64) -> io::Result<Duration> {
    let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    for (socket, peer) in [(&here, &there), (&there, &here)] {
        socket.connect(peer.local_addr()?)?;
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let count = bytes.div_ceil(DATAGRAM as u64);
    let start = Instant::now();
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut buffer = vec![0; DATAGRAM];
            (0..count).try_for_each(|_| there.recv(&mut buffer).and_then(|_| there.send(&[1]).map(drop)))
        });
        let (datagram, mut answer) = (vec![7; DATAGRAM], [0]);
        for sent in 0..count {
            if sent >= WINDOW {
                here.recv(&mut answer)?;
            }
            here.send(&datagram)?;
        }
        receiver.join().expect("a receiver does not panic")
    })?;
    Ok(start.elapsed())
}

/// A folder mounted once more by `bindfs`, the plain FUSE file system that most machines have. Unmounts when dropped.
pub struct PlainFuse {
    place: TempDir,
}

impl PlainFuse {
    /// None where `bindfs` is not installed or cannot mount.
    pub fn of(folder: &Path) -> Option<PlainFuse> {
        let place = TempDir::new().ok()?;
        let mut bindfs = Command::new("bindfs");
        // It answers once it is mounted, and goes on behind.
        bindfs.arg("-r").arg(folder).arg(place.path()).stdout(Stdio::null()).stderr(Stdio::null());
        bindfs.status().is_ok_and(|status| status.success()).then_some(PlainFuse { place })
    }

    /// Where.
    pub fn path(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for PlainFuse {
    fn drop(&mut self) {
        // Lazily: a reader that failed may still have a file open.
        let _ = Command::new("fusermount3").args(["-u", "-z"]).arg(self.place.path()).status();
    }
}

/// Forgets what the kernel's page cache holds of a file, by its path: what is dirty stays.
///
/// # Errors
/// Of the file.
pub fn drop_pages(path: &Path) -> io::Result<()> {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    let file = fs::File::open(path)?;
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_arrives() {
        assert!(loopback_udp(10 << 20).unwrap() > Duration::ZERO);
    }
}
