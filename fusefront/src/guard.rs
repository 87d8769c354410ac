//! The guard: a second process that takes a mount off the tree when the first dies without doing so.
//!
//! It is this program executed again, in a process group of its own, and holds nothing but the end of a pipe. The mount
//! writes where it mounts; when the pipe closes, the guard looks for that mount and detaches it if it is dead. A live
//! mount at the same place, of whomever, is left alone.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{ChildStdin, Command, ExitCode, Stdio},
};

use nix::sys::signal::SigSet;

use crate::{
    mountinfo::{self, MountInfo},
    mountpoint,
    unmount::{self, Detach},
};

/// The hidden first argument that makes the program a guard.
pub const ARGUMENT: &str = "__guard";
/// Bytes a guard reads at most: a path and a number.
const ORDERS_BYTES_MAX: u64 = 64 * 1024;

/// The mount's side: when this process ends, however it does, the guard looks after the mount.
#[derive(Debug)]
pub struct Guard {
    orders: ChildStdin,
}

impl Guard {
    /// Starts it. Call this before there are threads, so that it begins with nothing of theirs.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn start() -> io::Result<Guard> {
        // Also when the program's file was replaced or removed since this process began.
        let mut child = Command::new("/proc/self/exe")
            .arg0("wormhole")
            .arg(ARGUMENT)
            .process_group(0)
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let orders = child.stdin.take().ok_or_else(|| io::Error::other("the guard has no pipe"))?;
        Ok(Guard { orders })
    }

    /// Says where the mount will be, before it is there.
    ///
    /// # Errors
    /// When the guard is gone.
    pub fn watch(&mut self, mountpoint: &Path) -> io::Result<()> {
        self.order(mountpoint.as_os_str().as_bytes())
    }

    /// Says which mount it is, now that it is there: from here on a later one at the same place is none of its business.
    ///
    /// # Errors
    /// When the guard is gone.
    pub fn watch_only(&mut self, mount: &MountInfo) -> io::Result<()> {
        self.order(mount.id.to_string().as_bytes())
    }

    fn order(&mut self, field: &[u8]) -> io::Result<()> {
        self.orders.write_all(&[field, b"\0"].concat())
    }
}

/// What a guard was told.
#[derive(Debug, PartialEq, Eq)]
struct Orders {
    mountpoint: PathBuf,
    id: Option<u64>,
}

impl Orders {
    fn parse(bytes: &[u8]) -> Option<Orders> {
        // Only what ends with a NUL was written whole.
        let mut fields: Vec<&[u8]> = bytes.split(|&b| b == 0).collect();
        fields.pop();
        let mountpoint = PathBuf::from(std::ffi::OsString::from_vec(fields.first()?.to_vec())); // copy: once
        let id = fields.get(1).and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        Some(Orders { mountpoint, id })
    }
}

/// The guard's whole life. Has no deadline: it waits for as long as the mount lives.
pub fn run() -> ExitCode {
    // Who ends a group of processes, or a whole service, means the mount; the guard ends when that has.
    let _ = SigSet::all().thread_block();
    close_inherited();
    let mut bytes = Vec::new();
    // What was read before an error counts.
    let _ = io::stdin().take(ORDERS_BYTES_MAX).read_to_end(&mut bytes);
    let Some(orders) = Orders::parse(&bytes) else { return ExitCode::SUCCESS };
    match clear(&orders) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody listens; the next `wormhole mount` there recovers.
        Err(_) => ExitCode::FAILURE,
    }
}

fn clear(orders: &Orders) -> io::Result<()> {
    let Some(mount) = mountinfo::at(&orders.mountpoint)? else { return Ok(()) };
    let is_it = mount.is_ours() && orders.id.is_none_or(|id| id == mount.id);
    // Numbers of mounts are used again: only a dead one can be that of a dead process.
    if is_it && mountpoint::is_dead_mount(&mount) {
        unmount::detach(&mount, Detach::Lazily).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Closes what this process was given beside its standard streams: a lock or a pipe of a shell must not stay open for
/// as long as the mount lives.
fn close_inherited() {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> =
        open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|&number| number > 2) {
        // The one that listed the folder is closed already.
        let _ = nix::unistd::close(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_far_as_they_were_written() {
        let orders = |bytes| Orders::parse(bytes).map(|orders| (orders.mountpoint, orders.id));
        assert_eq!(orders(b""), None);
        assert_eq!(orders(b"/mn"), None);
        assert_eq!(orders(b"/mnt\0"), Some(("/mnt".into(), None)));
        assert_eq!(orders(b"/mnt\x0012"), Some(("/mnt".into(), None)));
        assert_eq!(orders(b"/mnt\x00123\0"), Some(("/mnt".into(), Some(123))));
    }

    #[test]
    fn other_mounts_are_left_alone() {
        clear(&Orders { mountpoint: "/proc".into(), id: None }).unwrap();
        clear(&Orders { mountpoint: "/nonexistent".into(), id: Some(1) }).unwrap();
        assert!(mountinfo::at(Path::new("/proc")).unwrap().is_some());
    }
}
