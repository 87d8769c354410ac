//! The handle to a ring: start, read, write, stop.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::cached::{CachedRead, read_cached};
use crate::error::{Operation, RingError};
use crate::fallback::{self, BLOCKING_THREADS_MAX};
use crate::intake::{Command, Intake, Reply, Work};
use crate::slot::{Slot, SlotRange};
use crate::{probe, ring};

/// Bounds of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Operations in flight at most, 1 to 4096; 32 keeps an NVMe disk busy (60,000 4 KiB reads/s against 14,000 at 1).
    pub depth: u32,
    /// Operations that wait to be submitted at most, 1 to 65,536; further callers wait for a place.
    pub queue_max: usize,
    /// Which back end.
    pub backend: BackendChoice,
    /// How long [`Ring::shutdown`] waits for what is in flight.
    pub drain_deadline: Duration,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        RingConfig {
            depth: 32,
            queue_max: 256,
            backend: BackendChoice::Auto,
            drain_deadline: Duration::from_secs(5),
        }
    }
}

/// What may serve a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring, or blocking threads where it is refused.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// Blocking threads.
    Blocking,
}

/// What serves a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring.
    Uring,
    /// Blocking `pread` and `pwrite` threads.
    Blocking {
        /// Why not io_uring, in words for the log and `status`.
        reason: String,
    },
}

/// Counts of a ring since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingStats {
    /// Handed to the kernel and not completed.
    pub in_flight: u64,
    /// Handed to the kernel.
    pub submitted: u64,
    /// Completed, with success or not.
    pub completed: u64,
}

/// One read.
#[derive(Debug)]
pub struct ReadAt {
    /// Read from here; kept open until the completion.
    pub file: Arc<File>,
    /// Into this; it comes back with the result.
    pub slot: Slot,
    /// Into this part of it. For a file opened with `O_DIRECT`: start and length in whole blocks of the device.
    pub range: SlotRange,
    /// From here, in bytes.
    pub offset: u64,
}

/// A read's end: what happened, and the slot back either way.
#[derive(Debug)]
pub struct Done {
    /// Bytes read to the start of the range. Fewer than asked is a short read, to be continued by the caller; 0 is the
    /// end of the file.
    pub result: Result<usize, RingError>,
    /// The slot that was given. After an error, what its range holds is unspecified (but initialised).
    pub slot: Slot,
}

/// A cheap handle to a ring; clones share it. When the last is dropped the ring stops and drains by itself.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

struct Shared {
    intake: Arc<Intake>,
    backend: Backend,
    drain_deadline: Duration,
    #[cfg(any(test, feature = "testing"))]
    disk: Option<crate::testing::FaultyDisk>,
}

impl Ring {
    /// Pieces of one vectored write at most: what the kernel takes (`IOV_MAX` of limits.h).
    pub const PARTS_MAX: usize = 1024;

    /// Starts a ring and its thread, or the blocking threads. Blocks for the set-up, well below a millisecond.
    ///
    /// # Errors
    /// A bound out of its range; a thread that cannot be started; io_uring refused and no other back end allowed.
    pub fn start(config: RingConfig) -> Result<Ring, RingError> {
        if !(1..=4096).contains(&config.depth) {
            return Err(RingError::Config { reason: "depth must be 1 to 4096" });
        }
        if !(1..=65_536).contains(&config.queue_max) {
            return Err(RingError::Config { reason: "queue_max must be 1 to 65536" });
        }
        match config.backend {
            BackendChoice::Blocking => Self::start_blocking(config, "chosen by configuration".to_owned()),
            BackendChoice::Uring => Self::start_uring(config).map_err(|reason| RingError::Refused { reason }),
            BackendChoice::Auto => {
                Self::start_uring(config).or_else(|reason| Self::start_blocking(config, reason))
            }
        }
    }

    fn start_uring(config: RingConfig) -> Result<Ring, String> {
        probe::probe()?;
        let intake = Arc::new(Intake::new(config.queue_max, 1));
        ring::spawn(config.depth, Arc::clone(&intake))
            .map_err(|e| probe::explain("starting the ring", &e))?;
        Ok(Self::new(intake, Backend::Uring, config))
    }

    fn start_blocking(config: RingConfig, reason: String) -> Result<Ring, RingError> {
        let threads = BLOCKING_THREADS_MAX.min(config.depth as usize);
        let intake = Arc::new(Intake::new(config.queue_max, threads));
        fallback::spawn(threads, &intake)?;
        Ok(Self::new(intake, Backend::Blocking { reason }, config))
    }

    fn new(intake: Arc<Intake>, backend: Backend, config: RingConfig) -> Ring {
        Ring {
            shared: Arc::new(Shared {
                intake,
                backend,
                drain_deadline: config.drain_deadline,
                #[cfg(any(test, feature = "testing"))]
                disk: None,
            }),
        }
    }

    /// A ring that something else than a thread serves.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn over_disk(
        intake: Arc<Intake>,
        backend: Backend,
        config: RingConfig,
        disk: crate::testing::FaultyDisk,
    ) -> Ring {
        let drain_deadline = config.drain_deadline;
        Ring { shared: Arc::new(Shared { intake, backend, drain_deadline, disk: Some(disk) }) }
    }

    /// What serves it.
    pub fn backend(&self) -> Backend {
        self.shared.backend.clone()
    }

    /// Reads a part of a file into a part of a slot.
    ///
    /// Waits for a place in the queue, then for the device, without a deadline of its own: the caller sets one and
    /// drops the future. That gives the answer up, not the memory: a read in flight keeps slot and file until its
    /// completion, then the slot goes home; one not yet submitted is dropped.
    ///
    /// # Panics
    /// When the range leaves the slot; when the ring's thread has panicked.
    pub async fn read_at(&self, read: ReadAt) -> Done {
        let ReadAt { file, slot, range, offset } = read;
        range.check(slot.capacity());
        if let Err(error) = check_offset(Operation::Read, range.len, offset) {
            return Done { result: Err(error), slot };
        }
        let intake = &self.shared.intake;
        let Some(place) = intake.place().await else {
            return Done { result: Err(RingError::Stopped), slot };
        };
        let (reply, answer) = oneshot::channel();
        let reply = Reply::Future(reply);
        intake.push(place, Command { file, offset, work: Work::Read { slot, range, reply } });
        answer.await.expect("a ring answers each command unless its thread panicked")
    }

    /// As [`Ring::read_at`], with the answer handed to `then` on the ring's own thread: a wake-up less where the
    /// answer needs no other thread. `then` holds the ring up as long as it takes, and must neither wait nor panic.
    ///
    /// Whoever calls sets a deadline by other means: a read in flight is not given up. `then` is dropped uncalled only
    /// when the ring's thread panics.
    ///
    /// # Errors
    /// The read, when the queue is full now, the ring is stopped, or the offset is none of a file.
    ///
    /// # Panics
    /// When the range leaves the slot.
    pub fn read_then(&self, read: ReadAt, then: impl FnOnce(Done) + Send + 'static) -> Result<(), ReadAt> {
        read.range.check(read.slot.capacity());
        let intake = &self.shared.intake;
        let place = intake.place_now();
        let (Some(place), Ok(())) = (place, check_offset(Operation::Read, read.range.len, read.offset))
        else {
            return Err(read);
        };
        let ReadAt { file, slot, range, offset } = read;
        let reply = Reply::Call(Box::new(then));
        intake.push(place, Command { file, offset, work: Work::Read { slot, range, reply } });
        Ok(())
    }

    /// Fills `buf` from the page cache, on this thread and without waiting for a device: [`crate::read_cached`] for the
    /// files that this ring reads.
    ///
    /// # Errors
    /// As [`crate::read_cached`].
    pub fn read_cached(&self, file: &File, buf: &mut [u8], offset: u64) -> std::io::Result<CachedRead> {
        #[cfg(any(test, feature = "testing"))]
        if let Some(disk) = &self.shared.disk {
            return disk.read_cached(file, buf, offset);
        }
        read_cached(file, buf, offset)
    }

    /// Writes bytes to a part of a file; how many were written, which may be fewer.
    ///
    /// `data` is a [`crate::Filled`] or [`Bytes`], shared with the kernel until the completion and not copied; for a
    /// file opened with `O_DIRECT` it starts at, and is, whole blocks of the device. A dropped future leaves a write in
    /// flight to complete, and one not yet submitted undone.
    ///
    /// # Panics
    /// When the ring's thread has panicked.
    pub async fn write_at(
        &self,
        file: Arc<File>,
        data: impl Into<Bytes>,
        offset: u64,
    ) -> Result<usize, RingError> {
        self.write_parts_at(file, vec![data.into()], offset).await
    }

    /// Writes several pieces, one after the other, to one part of a file as one operation; how many bytes were written,
    /// which may be fewer.
    ///
    /// As [`Ring::write_at`]; for a file opened with `O_DIRECT` each part by itself starts at, and is, whole blocks. At
    /// most [`Ring::PARTS_MAX`] parts.
    ///
    /// # Panics
    /// When there are more parts; when the ring's thread has panicked.
    pub async fn write_parts_at(
        &self,
        file: Arc<File>,
        parts: Vec<Bytes>,
        offset: u64,
    ) -> Result<usize, RingError> {
        assert!(parts.len() <= Self::PARTS_MAX, "a write of {} parts", parts.len());
        check_offset(Operation::Write, parts.iter().map(Bytes::len).sum(), offset)?;
        let intake = &self.shared.intake;
        let place = intake.place().await.ok_or(RingError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        intake.push(place, Command { file, offset, work: Work::Write { parts, reply } });
        answer.await.expect("a ring answers each command unless its thread panicked")
    }

    /// Counts since the start.
    pub fn stats(&self) -> RingStats {
        let (submitted, completed) = self.shared.intake.counts();
        RingStats { in_flight: submitted - completed, submitted, completed }
    }

    /// Takes no more operations; those not yet submitted end with [`RingError::Stopped`], those in flight go on.
    pub fn stop(&self) {
        self.shared.intake.stop();
    }

    /// Stops and waits until nothing is in flight, at most [`RingConfig::drain_deadline`].
    ///
    /// The deadline is real time, whatever clock the caller's runtime runs on. A dropped future has stopped the ring
    /// and waits for nothing.
    ///
    /// # Errors
    /// [`RingError::DrainDeadline`] when the kernel still holds operations: their slots and files are not freed, the
    /// ring's thread goes on waiting for them; the process should exit.
    pub async fn shutdown(self) -> Result<(), RingError> {
        self.stop();
        let deadline = self.shared.drain_deadline;
        let (drained, is_drained) = oneshot::channel();
        let intake = Arc::clone(&self.shared.intake);
        // A thread, since neither a paused clock nor a runtime without timers may keep a process from its end.
        std::thread::Builder::new()
            .name("wormhole-drain".into())
            .spawn(move || {
                // Nobody waits any more when this fails.
                let _ = drained.send(intake.wait_drained(deadline));
            })
            .map_err(|source| RingError::Thread { source })?;
        if is_drained.await.unwrap_or(false) {
            return Ok(());
        }
        Err(RingError::DrainDeadline { in_flight: self.stats().in_flight, deadline })
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("backend", &self.shared.backend).field("stats", &self.stats()).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.intake.stop();
    }
}

/// Offsets above `i64::MAX` do not exist in a file, and the highest means "the current position" to the kernel.
fn check_offset(operation: Operation, len: usize, offset: u64) -> Result<(), RingError> {
    match i64::try_from(offset) {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(RingError::Io { operation, len, offset, source: std::io::ErrorKind::InvalidInput.into() })
        }
    }
}
