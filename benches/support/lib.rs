//! What the benches share: known files, a host and a mount of them in this process, caches dropped.

#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use engine::{
    config::{HostConfig, ShareConfig},
    host::Host,
};
use fusefront::{
    MountConfig,
    mount::{self, Mounted},
    unmount::Detach,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use wire::Name;

/// A host of a temporary folder and a real mount of it, both in this process, over QUIC on loopback. Unmounts when
/// dropped.
pub struct Rig {
    mounted: Option<Mounted>,
    host: Option<Host>,
    runtime: Runtime,
    place: TempDir,
}

impl Rig {
    /// A host of an empty folder, mounted.
    ///
    /// # Errors
    /// What host or mount say: no io_uring and no blocking threads, no /dev/fuse.
    pub fn start() -> Result<Rig, Box<dyn std::error::Error>> {
        let place = TempDir::new()?;
        let (source, mountpoint) = (place.path().join("source"), place.path().join("mount"));
        fs::create_dir(&source)?;
        fs::create_dir(&mountpoint)?;
        let share = ShareConfig::new(Name::new(b"bench")?, source);
        let mut config = HostConfig::new(vec![share], place.path().join("state"));
        config.listen = vec!["127.0.0.1:0".parse()?];
        let host = Host::start(config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut rig = Rig { mounted: None, host: Some(host), runtime, place };
        rig.mount()?;
        Ok(rig)
    }

    /// The folder on the host's side.
    pub fn source(&self) -> PathBuf {
        self.place.path().join("source")
    }

    /// The same folder through the mount.
    pub fn mountpoint(&self) -> PathBuf {
        self.place.path().join("mount")
    }

    /// A fresh mount in place of the one there: nothing in its memory, nothing in the kernel's. The host's page cache
    /// stays as it is.
    ///
    /// # Errors
    /// What the mount says.
    pub fn remount(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.unmount();
        self.mount()
    }

    fn mount(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let host = self.host.as_ref().ok_or("the host is stopped")?;
        let config = MountConfig::new(host.ticket(), self.mountpoint());
        self.mounted = Some(self.runtime.block_on(async { mount::connect(config).await?.attach() })?);
        Ok(())
    }

    fn unmount(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            // Dropping it detaches it in any case.
            let _ = mounted.detach(Detach::Lazily);
            self.runtime.block_on(mounted.finish());
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.unmount();
        if let Some(host) = self.host.take() {
            // A host that does not stop in time ends with the bench.
            let _ = host.stop();
        }
    }
}

/// Writes `len` bytes that repeat nowhere near.
///
/// # Errors
/// What the file system says.
pub fn write_pattern(path: &Path, len: u64) -> io::Result<()> {
    const BLOCK: usize = 1 << 20;
    let mut file = File::create(path)?;
    let (mut state, mut left) = (0x9E37_79B9_7F4A_7C15_u64, len);
    let mut block = vec![0; BLOCK];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            // xorshift64: fast, and nothing compresses it.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let now = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        file.write_all(&block[..now])?;
        left -= now as u64;
    }
    Ok(())
}
