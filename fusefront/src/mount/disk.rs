//! The disk cache of a mount: opened with it, closed with it. A mount without one is still a mount.

use std::{error::Error, time::Duration};

use engine::cache::{L2, l2::L2Config};
use tokio::{task::spawn_blocking, time::timeout};
use uring::{Backend, Pool, Ring, RingConfig};

use crate::{config::CacheConfig, keeper, snapshot};

/// How long the cache may take to write what it still has, when the mount ends.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How long what the cache holds may take to be found, before a mount begins without its host.
const LOAD_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that may wait for the disk, and their slots with them: an eighth of the memory, within these bounds.
const QUEUE_BYTES: (usize, usize) = (1 << 20, 16 << 20);

/// Opens the cache that is asked for; says in the log why it cannot be had.
pub(super) async fn open(config: Option<&CacheConfig>, pool: &Pool) -> Option<L2> {
    let CacheConfig { dir, quota_bytes } = config?.clone();
    let mut config = L2Config::new(&dir, quota_bytes);
    let (least, most) = QUEUE_BYTES;
    config.reserved_bytes = snapshot::reserve_bytes(quota_bytes);
    config.queue_bytes_max = (pool.stats().capacity_bytes / 8).clamp(least, most);
    let pool = pool.clone();
    // It waits for locks and reads a directory.
    let opened = spawn_blocking(move || start(&config, pool)).await;
    match opened {
        Ok(Ok(l2)) => Some(l2),
        Ok(Err(error)) => {
            let reason = engine::error::one_line(&*error);
            tracing::warn!(dir = %dir.display(), reason, "no cache on the disk: all comes from the host");
            None
        }
        Err(error) => {
            tracing::error!(%error, "the disk cache could not be opened");
            None
        }
    }
}

/// Waits until what earlier mounts left is found: without a host, what is not found yet could not be read.
pub(super) async fn loaded(l2: &L2) {
    if !matches!(timeout(LOAD_PATIENCE, keeper::loaded(l2)).await, Ok(Ok(()))) {
        tracing::warn!("the disk cache is still being looked through: not all that it holds can be read yet");
    }
}

fn start(config: &L2Config, pool: Pool) -> Result<L2, Box<dyn Error + Send + Sync>> {
    let ring = Ring::start(RingConfig::default())?;
    if let Backend::Blocking { reason } = ring.backend() {
        tracing::warn!(%reason, "io_uring is refused; the disk cache uses blocking threads instead");
    }
    Ok(L2::open(config, ring, pool)?)
}

/// Writes what the cache still has, and its index, for the next mount.
pub(super) async fn close(l2: &L2) {
    if let Err(error) = l2.close(CLOSE_PATIENCE).await {
        tracing::warn!(%error, "the disk cache was left as after a crash: its next start takes longer");
    }
}
