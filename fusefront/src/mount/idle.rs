//! A mount gives memory back: when idle, its cache, since the kernel's page cache keeps what was read and yields to
//! others; and what nodes took that the kernel forgot.

use std::time::Duration;

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use crate::vfs::Vfs;

/// How often the mount looks; as many looks without a read between them make it idle, 20 to 25 s after the last.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOOKS: u32 = 4;
/// How long a read-ahead window is kept for a place that is not read.
const WINDOW_REST: Duration = Duration::from_secs(10);
/// Bytes of cache an idle mount keeps.
const KEEP_BYTES: u64 = 8 << 20;

/// As many nodes fewer than before are some 5 MB of free memory, which the allocator would keep.
const NODES_FEWER: u64 = 64 << 10;

/// Runs for as long as the lane does.
pub(super) async fn watch(vfs: Vfs) {
    let (reads, stats) = (vfs.reads(), vfs.stats());
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut same) = (None, 0_u32);
    let mut nodes_most = 0;
    loop {
        let looked = looks.tick().await;
        vfs.age_folders(looked);
        if let Some(before) = looked.checked_sub(WINDOW_REST) {
            reads.rest(before);
            vfs.rest_scans(before);
        }
        let now = (stats.reads.get(), stats.fetches_in_flight.get());
        same = if seen == Some(now) && now.1 == 0 { same.saturating_add(1) } else { 0 };
        if same >= LOOKS {
            reads.l1().shrink(KEEP_BYTES);
        }
        seen = Some(now);
        let nodes = vfs.held().nodes;
        nodes_most = nodes.max(nodes_most);
        if same == LOOKS || nodes_most - nodes >= NODES_FEWER {
            nodes_most = nodes;
            // Fails only when the lane ends.
            let _ = spawn_blocking(uring::trim_heap).await;
        }
    }
}
