//! A disk that fails, for tests: it serves a [`Ring`] in this process, on tokio's clock, and repeats with its seed.
//!
//! ```text
//! let disk = FaultyDisk::new(7);
//! disk.set(DiskFaults { error_ppm: 10_000, ..DiskFaults::default() });
//! let ring = disk.ring(RingConfig::default());   // inside a runtime; no thread is started
//! ```
//!
//! The bytes are those of the real file; what goes wrong is drawn. The operations keep their slot and file until they
//! are completed, as the kernel does, whether or not somebody still waits. It serves files opened without `O_DIRECT`.

mod journal;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cached::{self, CachedRead};
use crate::handle::{Backend, Ring, RingConfig};
use crate::intake::{Command, Intake, Serving, Work};

/// What goes wrong, in parts per million of the operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Operations that end with EIO.
    pub error_ppm: u32,
    /// Operations that move only some of their bytes, at least one.
    pub short_ppm: u32,
    /// Operations that take up to [`DiskFaults::late_max`]; the others take no time.
    pub late_ppm: u32,
    /// See [`DiskFaults::late_ppm`].
    pub late_max: Duration,
    /// Reads of which one bit is wrong. Nothing on a host can tell: for tests of caches that keep hashes.
    pub flip_ppm: u32,
    /// Inline reads of the page cache that find nothing, or only the first bytes.
    pub uncached_ppm: u32,
}

/// What went wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Operations of rings begun.
    pub operations: u64,
    /// Those that ended with EIO.
    pub errors: u64,
    /// Those that moved fewer bytes than asked for.
    pub short: u64,
    /// Those that took time.
    pub late: u64,
    /// Reads with a wrong bit.
    pub flipped: u64,
}

/// A seeded disk; clones are the same one.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
    released: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    random: u64,
    faults: DiskFaults,
    counts: DiskCounts,
    /// Nothing completes before.
    hangs_until: Option<Instant>,
    /// What a power cut may bring back, once [`FaultyDisk::keep_history`] was called.
    journal: Option<journal::Journal>,
}

/// What will become of one operation.
#[derive(Clone, Copy, Debug)]
struct Fate {
    delay: Duration,
    error: bool,
    /// Bytes moved at most.
    len: usize,
    /// Which bit of the bytes read is wrong, modulo their number.
    flip: Option<u64>,
}

impl FaultyDisk {
    /// A disk without faults. Equal seeds and operations, equal faults.
    pub fn new(seed: u64) -> FaultyDisk {
        let state = State {
            random: seed,
            faults: DiskFaults::default(),
            counts: DiskCounts::default(),
            hangs_until: None,
            journal: None,
        };
        FaultyDisk { state: Arc::new(Mutex::new(state)), released: Arc::default() }
    }

    /// From now on operations begin with these faults.
    pub fn set(&self, faults: DiskFaults) {
        self.state.lock().faults = faults;
    }

    /// Nothing completes before `until`, also of what is in flight.
    pub fn hang_until(&self, until: Instant) {
        self.state.lock().hangs_until = Some(until);
    }

    /// Ends a hang, and what goes wrong with operations that begin from now on.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.hangs_until = None;
        state.faults = DiskFaults::default();
        drop(state);
        self.released.notify_waiters();
    }

    /// From now on every write may be undone by [`FaultyDisk::cut_power`], sector by sector.
    pub fn keep_history(&self) {
        self.state.lock().journal.get_or_insert_default();
    }

    /// What a power cut does to a disk that was never flushed: each 4 KiB sector written since the history began, or
    /// since the last cut, holds any of its contents since then, each sector by itself. How many hold earlier ones.
    ///
    /// # Errors
    /// When a sector cannot be written back.
    pub fn cut_power(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        let Some(mut journal) = state.journal.take() else { return Ok(0) };
        let reverted = journal.cut(|| state.draw());
        state.journal = Some(journal);
        reverted
    }

    /// Keeps what a write is about to replace.
    fn record(&self, file: &Arc<File>, offset: u64, len: usize) {
        if let Some(journal) = &mut self.state.lock().journal {
            journal.keep(file, offset, len);
        }
    }

    /// What went wrong so far.
    pub fn counts(&self) -> DiskCounts {
        self.state.lock().counts
    }

    /// A ring that this disk serves, as a task of the current runtime instead of a thread; it ends with the last handle
    /// once nothing is in flight. Of the configuration its bounds count.
    pub fn ring(&self, config: RingConfig) -> Ring {
        let intake = Arc::new(Intake::new(config.queue_max, 1));
        let depth = config.depth.max(1) as usize;
        tokio::spawn(serve(self.clone(), Arc::clone(&intake), depth));
        let backend = Backend::Blocking { reason: "a simulated disk".to_owned() };
        Ring::over_disk(intake, backend, config, self.clone())
    }

    /// Draws whether something is in memory: as often not as [`DiskFaults::uncached_ppm`] says.
    pub fn draw_cached(&self) -> bool {
        let mut state = self.state.lock();
        let uncached_ppm = state.faults.uncached_ppm;
        !state.chance(uncached_ppm)
    }

    /// Waits as long as an operation that begins now would; for work on the disk that does not go through a ring.
    pub async fn pause(&self) {
        let delay = self.state.lock().delay();
        self.wait(delay).await;
    }

    /// What [`crate::read_cached`] does, with a page cache that lacks what the seed says.
    pub(crate) fn read_cached(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<CachedRead> {
        let len = {
            let mut state = self.state.lock();
            let uncached_ppm = state.faults.uncached_ppm;
            let (missed, part) = (state.chance(uncached_ppm), state.draw());
            // Half of the misses find the first pages.
            match missed {
                true if part % 2 == 0 || buf.is_empty() => return Ok(CachedRead::Miss),
                true => usize::try_from(part / 2 % buf.len() as u64).unwrap_or(0),
                false => buf.len(),
            }
        };
        if len == 0 && !buf.is_empty() {
            return Ok(CachedRead::Miss);
        }
        cached::read_cached(file, &mut buf[..len], offset)
    }

    async fn wait(&self, delay: Duration) {
        if !delay.is_zero() {
            sleep(delay).await;
        }
        loop {
            let released = self.released.notified();
            let Some(until) = self.state.lock().hangs_until else { return };
            if Instant::now() >= until {
                return;
            }
            tokio::select! {
                biased;
                () = released => {}
                () = sleep_until(until) => {}
            }
        }
    }

    async fn fly(self, mut command: Command, intake: Arc<Intake>) {
        let fate = self.state.lock().fate(command.work.len());
        self.wait(fate.delay).await;
        let result = fate.perform(&self, &mut command);
        intake.count_completed();
        command.complete(result);
    }
}

/// Takes commands until the ring is stopped, and ends once nothing is in flight.
async fn serve(disk: FaultyDisk, intake: Arc<Intake>, depth: usize) {
    let serving = Serving(intake);
    let mut flights = JoinSet::new();
    loop {
        let free = flights.len() < depth;
        tokio::select! {
            biased;
            Some(_) = flights.join_next() => {}
            command = std::future::poll_fn(|cx| serving.0.poll_next(cx)), if free => match command {
                Some(command) if command.work.is_abandoned() => drop(command),
                Some(command) => {
                    serving.0.count_submitted();
                    flights.spawn(disk.clone().fly(command, Arc::clone(&serving.0)));
                }
                None => break,
            },
        }
    }
    while flights.join_next().await.is_some() {}
}

impl State {
    /// splitmix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn chance(&mut self, ppm: u32) -> bool {
        self.draw() % 1_000_000 < u64::from(ppm)
    }

    fn delay(&mut self) -> Duration {
        // Drawn whatever the fate, so that one setting does not shift the chances of another.
        let (late, length) = (self.chance(self.faults.late_ppm), self.draw());
        let micros = u64::try_from(self.faults.late_max.as_micros()).unwrap_or(u64::MAX);
        if late { Duration::from_micros(1 + length % micros.max(1)) } else { Duration::ZERO }
    }

    fn fate(&mut self, asked: usize) -> Fate {
        let delay = self.delay();
        let error = self.chance(self.faults.error_ppm);
        let (short, part) = (self.chance(self.faults.short_ppm), self.draw());
        let (flip, bit) = (self.chance(self.faults.flip_ppm), self.draw());
        let short = short && asked > 1;
        let len = if short { 1 + usize::try_from(part % (asked as u64 - 1)).unwrap_or(0) } else { asked };
        let counts = &mut self.counts;
        counts.operations += 1;
        counts.late += u64::from(!delay.is_zero());
        counts.errors += u64::from(error);
        counts.short += u64::from(short && !error);
        counts.flipped += u64::from(flip && !error);
        Fate { delay, error, len, flip: flip.then_some(bit) }
    }
}

impl Fate {
    fn perform(self, disk: &FaultyDisk, command: &mut Command) -> io::Result<usize> {
        if self.error {
            return Err(Errno::IO.into());
        }
        match &mut command.work {
            Work::Read { slot, range, .. } => {
                let into = &mut slot.bytes_mut()[range.indices()][..self.len];
                let n = command.file.read_at(into, command.offset)?;
                if let Some(bit) = self.flip.filter(|_| n > 0) {
                    let at = usize::try_from(bit / 8 % n as u64).unwrap_or(0);
                    into[at] ^= 1 << (bit % 8);
                }
                Ok(n)
            }
            Work::Write { parts, .. } => {
                let data = match parts.as_slice() {
                    [part] => part.clone(),
                    parts => parts.concat().into(),
                };
                disk.record(&command.file, command.offset, self.len);
                command.file.write_at(&data[..self.len], command.offset)
            }
        }
    }
}

#[cfg(test)]
mod tests;
