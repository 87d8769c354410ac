//! An idle mount gives its memory back: the kernel's page cache keeps what was read, and it yields to others.

use std::{sync::Arc, time::Duration};

use engine::cache::L1;
use tokio::time::{MissedTickBehavior, interval};

use crate::stats::Stats;

/// How often the mount looks whether it is idle; two looks without a read between them make it so.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Bytes of cache an idle mount keeps.
const KEEP_BYTES: u64 = 8 << 20;

/// Runs for as long as the lane does.
pub(super) async fn watch(l1: L1, stats: Arc<Stats>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    loop {
        looks.tick().await;
        let now = (stats.reads.get(), stats.fetches_in_flight.get());
        if seen == Some(now) && now.1 == 0 {
            l1.shrink(KEEP_BYTES);
        }
        seen = Some(now);
    }
}
