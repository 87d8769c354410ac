//! The folder of a disk cache that no mount serves: opened by this command, and closed again.

use std::{path::Path, time::Duration};

use anyhow::{Context, anyhow};
use engine::cache::{L2, l2::L2Config};
use tokio::runtime::{Builder, Runtime};
use uring::{Pool, PoolConfig, Ring, RingConfig};

use super::super::args::CACHE_BYTES_MAX;
use crate::{keeper, mount, status::Cache};

/// Memory for what is read.
const MEMORY_BYTES: usize = 16 << 20;
/// How long writing the index may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Folder {
    dir: std::path::PathBuf,
    disk: L2,
    runtime: Runtime,
}

impl Folder {
    /// Opens a cache that is there.
    ///
    /// # Errors
    /// When it is not, or cannot be opened.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Folder> {
        if !dir.is_dir() {
            return Err(anyhow!(
                "there is no disk cache in {}: give its folder with --cache-dir",
                dir.display()
            ));
        }
        // Whatever its mounts allow it: nothing is to be dropped for this look.
        let mut config = L2Config::new(dir, CACHE_BYTES_MAX);
        config.free_floor_bytes = 0;
        let runtime = Builder::new_current_thread().enable_time().build().context("no runtime")?;
        let pool = Pool::new(PoolConfig::with_capacity(MEMORY_BYTES)).context("no memory to read it")?;
        let ring = Ring::start(RingConfig::default()).context("no ring to read it")?;
        let disk = L2::open(&config, ring, pool)?;
        Ok(Folder { dir: dir.to_owned(), disk, runtime })
    }

    /// Works on it, then writes its index.
    pub(super) fn with<T>(&self, work: impl AsyncFnOnce(&L2) -> Result<T, String>) -> anyhow::Result<T> {
        let outcome = self.runtime.block_on(work(&self.disk));
        let closed = self.runtime.block_on(self.disk.close(CLOSE_PATIENCE));
        let outcome = outcome.map_err(|reason| anyhow!("{}: {reason}", self.dir.display()))?;
        closed.with_context(|| format!("the cache in {} was left without its index", self.dir.display()))?;
        Ok(outcome)
    }

    /// What it holds. Its quota is a mount's to say.
    pub(super) fn stats(&self) -> anyhow::Result<Cache> {
        self.with(async |disk| {
            keeper::loaded(disk).await?;
            let mut cache = mount::cache_status(&self.dir, &disk.stats(), 0);
            cache.quota_bytes = 0;
            Ok(cache)
        })
    }
}
