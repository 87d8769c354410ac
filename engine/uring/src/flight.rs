//! Operations in flight: the table that owns each buffer and file until the completion is seen.
//!
//! Invariant: an address handed to the kernel stays valid, unaliased by a writer or (for reads) by anyone, until its
//! completion. tokio-uring holds no buffer at all: it frees what it holds when its runtime drops, completion or not. It
//! gets the submission entry with the raw addresses; this table owns what they point to. A table dropped with
//! operations in flight keeps them for good. The test `shutdown_past_its_deadline_frees_nothing` watches over it.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use io_uring::{cqueue, opcode, squeue, types};
use parking_lot::Mutex;
use slab::Slab;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

use crate::intake::{Command, Intake, Work};

/// The operations of one ring thread, at most its depth.
pub(crate) struct Flights<'a> {
    table: ManuallyDrop<Slab<Flight>>,
    depth: usize,
    intake: &'a Intake,
}

struct Flight {
    /// Owns the slot or bytes, and the file, that the kernel was told of.
    command: Command,
    /// What the kernel was told of a write in several parts: it may read this list as long as it works on it.
    vectors: Box<[Vector]>,
    completion: InFlightOneshot<(), CqeResult>,
}

/// One part of a vectored write, as the kernel reads it (`struct iovec` of writev(2)).
#[repr(C)]
struct Vector {
    base: *const u8,
    len: usize,
}

/// Takes a completion's result out of its entry; there is no buffer to give back.
struct CqeResult;

impl OneshotOutputTransform for CqeResult {
    type Output = io::Result<usize>;
    type StoredData = ();

    fn transform_oneshot_output(self, (): (), cqe: cqueue::Entry) -> io::Result<usize> {
        // A negative result is an errno with its sign turned (io_uring(7), "Completion queue entry").
        usize::try_from(cqe.result()).map_err(|_| io::Error::from_raw_os_error(-cqe.result()))
    }
}

/// What failed ring threads left with the kernel, at most a ring's depth each: never freed, so never reused.
static KEPT: Mutex<Vec<(Arc<File>, Vec<Bytes>)>> = Mutex::new(Vec::new());

impl<'a> Flights<'a> {
    pub(crate) fn new(depth: usize, intake: &'a Intake) -> Flights<'a> {
        Flights { table: ManuallyDrop::new(Slab::with_capacity(depth)), depth, intake }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.table.len() == self.depth
    }

    /// Puts a command in flight; the kernel sees it when the thread parks. The table must not be full.
    pub(crate) fn submit(&mut self, command: Command) {
        let entry = self.table.vacant_entry();
        let vectors = vectors_of(&command);
        let Ok(sqe) = sqe_of(&command, &vectors) else {
            return command.complete(Err(io::ErrorKind::InvalidInput.into()));
        };
        self.intake.count_submitted();
        // SAFETY: `entry` takes `command`, which owns the file of the entry's descriptor and the slot or bytes behind
        // its address, and `vectors`, the list behind the address of a vectored write, in the next expression and keeps
        // both until `poll` sees the completion: the only two ways out of the table are `poll` and `drop`, which puts
        // the one into `KEPT` and leaks the other. The addresses are inside the buffers (`Slot::address` asserts it;
        // those of a write are the data itself) and do not move with their owners: a slot's is in the mapping, `Bytes`
        // and the boxed list are on the heap. A slot in a `Command` is not touched by anyone; bytes are only read.
        let completion = unsafe { hand_to_kernel(sqe) };
        entry.insert(Flight { command, vectors, completion });
    }

    /// Answers what is completed and asks to be woken for the rest; how many were answered.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> usize {
        let mut completed = 0;
        for key in 0..self.table.capacity() {
            let Some(flight) = self.table.get_mut(key) else { continue };
            let Poll::Ready(result) = Pin::new(&mut flight.completion).poll(cx) else { continue };
            let Flight { command, vectors, .. } = self.table.remove(key);
            drop(vectors);
            self.intake.count_completed();
            command.complete(result);
            completed += 1;
        }
        completed
    }
}

impl Drop for Flights<'_> {
    /// With operations in flight, which happens only when the ring thread panics: keeps their buffers and files for
    /// good, since the kernel may still use them, and lets their callers go.
    fn drop(&mut self) {
        // SAFETY: this is `drop`, which runs once and after which nobody sees the table.
        let table = unsafe { ManuallyDrop::take(&mut self.table) };
        if table.is_empty() {
            return;
        }
        tracing::error!(
            in_flight = table.len(),
            "a ring thread failed; its buffers are kept until the process ends"
        );
        KEPT.lock().extend(table.into_iter().map(|(_, flight)| {
            Box::leak(flight.vectors);
            flight.command.abandon()
        }));
    }
}

/// The list of a write in several parts; empty for everything else.
fn vectors_of(command: &Command) -> Box<[Vector]> {
    match &command.work {
        Work::Write { parts, .. } if parts.len() > 1 => {
            parts.iter().map(|part| Vector { base: part.as_ptr(), len: part.len() }).collect()
        }
        _ => Box::default(),
    }
}

/// The submission entry of a command, with the list that goes with it.
fn sqe_of(command: &Command, vectors: &[Vector]) -> Result<squeue::Entry, std::num::TryFromIntError> {
    let fd = types::Fd(command.file.as_raw_fd());
    let len = u32::try_from(command.work.len())?;
    Ok(match &command.work {
        Work::Read { slot, range, .. } => {
            opcode::Read::new(fd, slot.address(*range).as_ptr(), len).offset(command.offset).build()
        }
        Work::Write { .. } if !vectors.is_empty() => {
            let parts = u32::try_from(vectors.len())?;
            opcode::Writev::new(fd, vectors.as_ptr().cast(), parts).offset(command.offset).build()
        }
        Work::Write { parts, .. } => {
            let address = parts.first().map_or(std::ptr::dangling(), |part| part.as_ptr());
            opcode::Write::new(fd, address, len).offset(command.offset).build()
        }
    })
}

/// Queues an entry in this thread's ring. tokio-uring declares it safe; it is not.
///
/// # Safety
/// Until the returned future is ready, the descriptor in the entry stays open, and the memory behind its address stays
/// valid and is not written by anyone else, nor read when the kernel writes it. Dropping the future does not end that.
unsafe fn hand_to_kernel(sqe: squeue::Entry) -> InFlightOneshot<(), CqeResult> {
    UnsubmittedOneshot::new((), CqeResult, sqe).submit()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use tokio::sync::oneshot;

    use super::*;
    use crate::class::SlotClass;
    use crate::intake::Reply;
    use crate::pool::{Pool, PoolConfig};
    use crate::slot::SlotRange;

    #[test]
    fn a_table_dropped_in_flight_keeps_the_buffers_and_lets_the_callers_go() {
        if crate::probe::tests::is_skipped() {
            return;
        }
        let pool = Pool::new(PoolConfig::with_capacity(1 << 20)).unwrap();
        let slot = pool.try_lend(SlotClass::Extent1M).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let file = Arc::new(File::from(OwnedFd::from(reader)));
        let intake = Intake::new(1, 1);
        tokio_uring::start(async {
            let (reply, answer) = oneshot::channel();
            let mut flights = Flights::new(1, &intake);
            let work = Work::Read { slot, range: SlotRange::first(4), reply: Reply::Future(reply) };
            flights.submit(Command { file: Arc::clone(&file), offset: 0, work });
            assert!(flights.is_full());
            assert_eq!(poll_fn(|cx| Poll::Ready(flights.poll(cx))).await, 0, "the pipe is empty");
            drop(flights);
            assert!(answer.await.is_err(), "nobody waits for an answer that cannot come");
            assert!(pool.try_lend(SlotClass::Page4K).is_none());
            writer.write_all(b"late").unwrap();
        });
        // The runtime's drop has waited for the read, which found its memory and file in place.
        assert_eq!((pool.stats().lent_bytes, Arc::strong_count(&file)), (1 << 20, 2));
    }
}
