//! A host and a mount in this process, over QUIC on loopback.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use engine::{
    config::{HostConfig, ShareConfig},
    host::Host,
};
use fusefront::{
    MountConfig,
    config::CacheConfig,
    mount::{self, Mounted},
    status::Report,
    unmount::Detach,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use wire::Name;

use crate::{
    corpus::Corpus,
    process::{self, Served},
};

/// New connections a second that a host of the benches lets in: each remount is one, all from one address.
const HANDSHAKES_PER_S: u32 = 10_000;

/// A host of a folder and a real mount of it. Unmounts when dropped.
pub struct Rig {
    mounted: Option<Mounted>,
    host: Option<Side>,
    runtime: Runtime,
    source: PathBuf,
    caches: Option<(u64, Option<CacheConfig>)>,
    place: TempDir,
}

/// Where the host runs.
enum Side {
    Here(Box<Host>),
    Apart(Box<Served>),
}

/// The files of the benches and a mount of them.
///
/// # Panics
/// Without a folder for the files, or a mount: there is nothing to measure then.
pub fn mounted_corpus() -> (Corpus, Rig) {
    let corpus = Corpus::open().expect("a folder for the files");
    let rig = Rig::of(corpus.root()).unwrap_or_else(|why| panic!("no mount to measure: {why}"));
    (corpus, rig)
}

impl Rig {
    /// A host of an empty folder, mounted, both in this process.
    ///
    /// # Errors
    /// What host or mount say: no io_uring and no blocking threads, no /dev/fuse.
    pub fn start() -> Result<Rig, Box<dyn Error>> {
        let place = TempDir::new()?;
        let source = place.path().join("source");
        fs::create_dir(&source)?;
        let host = Side::Here(Box::new(host(&source, place.path())?));
        Rig::on(host, source, place)
    }

    /// The same of a folder that is there, and is left as it is.
    ///
    /// # Errors
    /// As [`Rig::start`].
    pub fn of(source: &Path) -> Result<Rig, Box<dyn Error>> {
        let place = TempDir::new()?;
        let host = Side::Here(Box::new(host(source, place.path())?));
        Rig::on(host, source.to_owned(), place)
    }

    /// The same with the host in a process of its own: what this process does is the mount's alone.
    ///
    /// # Errors
    /// As [`Rig::start`].
    pub fn of_apart(source: &Path) -> Result<Rig, Box<dyn Error>> {
        let place = TempDir::new()?;
        let host = Side::Apart(Box::new(process::serve(source)?));
        Rig::on(host, source.to_owned(), place)
    }

    fn on(host: Side, source: PathBuf, place: TempDir) -> Result<Rig, Box<dyn Error>> {
        fs::create_dir(place.path().join("mount"))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut rig = Rig { mounted: None, host: Some(host), runtime, source, caches: None, place };
        rig.mount()?;
        Ok(rig)
    }

    /// The folder on the host's side.
    pub fn source(&self) -> PathBuf {
        self.source.clone()
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
    pub fn remount(&mut self) -> Result<(), Box<dyn Error>> {
        self.unmount();
        self.mount()
    }

    /// From the next mount on: so much memory, and a disk cache of so many bytes that later mounts find again, or none.
    pub fn set_caches(&mut self, memory_bytes: u64, disk_bytes: Option<u64>) {
        let cache =
            disk_bytes.map(|quota_bytes| CacheConfig { dir: self.place.path().join("cache"), quota_bytes });
        self.caches = Some((memory_bytes, cache));
    }

    /// What `wormhole status` shows of the mount.
    ///
    /// # Panics
    /// After a remount that failed.
    pub fn report(&self) -> Report {
        self.mounted.as_ref().and_then(Mounted::report).expect("a rig is mounted")
    }

    /// The same, once nothing that was fetched ahead is on its way any more.
    pub fn report_at_rest(&self) -> Report {
        loop {
            // Ends: each fetch has a deadline.
            let report = self.report();
            if report.fetches_in_flight == 0 && report.in_flight == 0 {
                return report;
            }
            std::thread::yield_now();
        }
    }

    fn mount(&mut self) -> Result<(), Box<dyn Error>> {
        let ticket = match self.host.as_ref().ok_or("the host is stopped")? {
            Side::Here(host) => host.ticket(),
            Side::Apart(served) => served.ticket().clone(),
        };
        let mut config = MountConfig::new(ticket, self.mountpoint());
        if let Some((memory_bytes, cache)) = &self.caches {
            config.memory_bytes = *memory_bytes;
            config.cache.clone_from(cache);
        }
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
        if let Some(Side::Here(host)) = self.host.take() {
            // A host that does not stop in time ends with the bench.
            let _ = host.stop();
        }
    }
}

/// A host of `source` on loopback, its keys below `place`.
///
/// # Errors
/// What the host says.
pub fn host(source: &Path, place: &Path) -> Result<Host, Box<dyn Error>> {
    let share = ShareConfig::new(Name::new(b"bench")?, source);
    let mut config = HostConfig::new(vec![share], place.join("state"));
    config.listen = vec!["127.0.0.1:0".parse()?];
    config.limits.handshakes_per_s = HANDSHAKES_PER_S;
    config.limits.handshakes_burst = HANDSHAKES_PER_S;
    Ok(Host::start(config)?)
}
