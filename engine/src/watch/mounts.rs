//! File systems mounted and unmounted below a watched directory: no watch tells of them.

use std::{collections::HashSet, fs::File, path::Path};

use tokio::io::{Interest, unix::AsyncFd};

use crate::share::mounts::{MOUNTINFO, mountpoint_of};

/// This process' mounts, which the kernel tells of when they change (proc_pid_mountinfo(5)). Where it does not, none ever
/// changes here.
pub(super) struct MountTable {
    told: Option<AsyncFd<File>>,
    lines: HashSet<Vec<u8>>,
}

impl MountTable {
    /// The mounts as they are now.
    pub(super) fn open() -> MountTable {
        let told = File::open(MOUNTINFO).and_then(register);
        if let Err(error) = &told {
            tracing::debug!(%error, "what is mounted inside a share is seen late: the kernel does not tell");
        }
        MountTable { told: told.ok(), lines: lines() }
    }

    /// Waits until something is mounted or unmounted. Without a deadline: that may never be.
    pub(super) async fn changed(&self) {
        if let Some(told) = &self.told
            && let Ok(mut ready) = told.ready(Interest::PRIORITY).await
        {
            return ready.clear_ready();
        }
        std::future::pending().await
    }

    /// What is mounted or unmounted since the last call.
    pub(super) fn take_changes(&mut self) -> Changed {
        let now = lines();
        let changed = self.lines.symmetric_difference(&now).cloned().collect();
        self.lines = now;
        Changed(changed)
    }
}

/// The lines of mounts that came, went, or are otherwise.
pub(super) struct Changed(Vec<Vec<u8>>);

impl Changed {
    /// Whether one of them is at a directory or below it.
    pub(super) fn is_below(&self, dir: &Path) -> bool {
        self.0.iter().filter_map(|line| mountpoint_of(line)).any(|mountpoint| mountpoint.starts_with(dir))
    }
}

/// None where they cannot be read: then all have changed once they can.
fn lines() -> HashSet<Vec<u8>> {
    let text = std::fs::read(MOUNTINFO).unwrap_or_default();
    text.split(|&b| b == b'\n').map(Vec::from).collect()
}

#[expect(
    deprecated,
    reason = "`register` is unsafe, which is forbidden here; the descriptor is owned by what is given, for as long"
)]
fn register(mounts: File) -> std::io::Result<AsyncFd<File>> {
    AsyncFd::with_interest(mounts, Interest::PRIORITY)
}
