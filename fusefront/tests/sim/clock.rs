//! The times of the simulated host: virtual, and as fine or coarse as the seed says.

use std::{collections::HashMap, sync::Arc, time::Duration};

use engine::testing::FileTimes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use wire::Timestamp;

const NANOS: u64 = 1_000_000_000;
/// What the host's clock shows when a run begins.
const EPOCH_NANOS: u64 = 1_700_000_000 * NANOS;
/// How long before that the first files were written: long settled.
const OLD_NANOS: u64 = 3600 * NANOS;

/// The clock of tokio, which is paused.
pub(crate) fn now() -> Instant {
    Instant::now() // clock: tokio's, paused
}

/// Lets virtual time pass.
pub(crate) async fn pass(time: Duration) {
    sleep_until(now() + time).await; // clock: tokio's, paused
}

/// How fine the times of files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// No two changes show the same time, as on kernels with multigrain timestamps.
    Fine,
    /// Changes within 10 ms show the same time.
    Tick,
}

const TICK_NANOS: u64 = 10_000_000;

pub(crate) struct Clock {
    start: Instant,
    grain: Grain,
    times: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    last_nanos: u64,
    /// Change of contents and change of anything, by inode.
    files: HashMap<u64, (Timestamp, Timestamp)>,
    running: bool,
}

impl Clock {
    pub(crate) fn new(grain: Grain) -> Arc<Clock> {
        Arc::new(Clock { start: now(), grain, times: Mutex::default() })
    }

    /// From here on changes show the time of day; before, they are old.
    pub(crate) fn run(&self) {
        self.times.lock().running = true;
    }

    fn nanos(&self) -> u64 {
        EPOCH_NANOS + u64::try_from(self.start.elapsed().as_nanos()).unwrap()
    }

    /// The time that a change made now shows.
    pub(crate) fn stamp(&self) -> Timestamp {
        let mut times = self.times.lock();
        let now = self.nanos() - if times.running { 0 } else { OLD_NANOS };
        let nanos = match self.grain {
            Grain::Fine => now.max(times.last_nanos + 1),
            Grain::Tick => now - now % TICK_NANOS,
        };
        times.last_nanos = nanos;
        timestamp(nanos)
    }

    /// A file's change of contents (`None`: as it was) and its change of anything.
    pub(crate) fn set(&self, inode: u64, mtime: Option<Timestamp>, ctime: Timestamp) {
        let mut times = self.times.lock();
        let before = times.files.get(&inode).map(|(mtime, _)| *mtime);
        times.files.insert(inode, (mtime.or(before).unwrap_or(ctime), ctime));
    }

    pub(crate) fn of(&self, inode: u64) -> Option<(Timestamp, Timestamp)> {
        self.times.lock().files.get(&inode).copied()
    }
}

fn timestamp(nanos: u64) -> Timestamp {
    Timestamp { secs: i64::try_from(nanos / NANOS).unwrap(), nanos: u32::try_from(nanos % NANOS).unwrap() }
}

/// The clock as the host sees it.
pub(crate) struct HostClock(pub(crate) Arc<Clock>);

impl FileTimes for HostClock {
    fn now(&self) -> Timestamp {
        timestamp(self.0.nanos())
    }

    fn of(&self, inode: u64) -> Option<(Timestamp, Timestamp)> {
        self.0.of(inode)
    }
}
