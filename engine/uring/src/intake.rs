//! Between the handles and a ring's threads: one bounded queue, its end, and the counts.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::error::{Operation, RingError};
use crate::handle::Done;
use crate::slot::{Slot, SlotRange};

/// One operation, with everything it needs and whoever waits for it.
pub(crate) struct Command {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    pub(crate) work: Work,
}

/// What to do, and where the answer goes.
pub(crate) enum Work {
    Read {
        slot: Slot,
        range: SlotRange,
        reply: Reply,
    },
    /// The parts one after the other, as one write.
    Write {
        parts: Vec<Bytes>,
        reply: oneshot::Sender<Result<usize, RingError>>,
    },
}

/// Where a read's answer goes.
pub(crate) enum Reply {
    /// To a future, which may be gone.
    Future(oneshot::Sender<Done>),
    /// To whoever is called with it, on the thread that has it.
    Call(Box<dyn FnOnce(Done) + Send>),
}

impl Reply {
    fn is_abandoned(&self) -> bool {
        match self {
            Reply::Future(reply) => reply.is_closed(),
            Reply::Call(_) => false,
        }
    }

    /// The buffer goes back with the result; where nobody waits any more, it goes home.
    fn send(self, done: Done) {
        match self {
            Reply::Future(reply) => drop(reply.send(done)),
            Reply::Call(call) => call(done),
        }
    }
}

impl Work {
    /// Whether the future that waited is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Work::Read { reply, .. } => reply.is_abandoned(),
            Work::Write { reply, .. } => reply.is_closed(),
        }
    }

    /// Bytes asked for.
    pub(crate) fn len(&self) -> usize {
        match self {
            Work::Read { range, .. } => range.len,
            Work::Write { parts, .. } => parts.iter().map(Bytes::len).sum(),
        }
    }

    fn operation(&self) -> Operation {
        match self {
            Work::Read { .. } => Operation::Read,
            Work::Write { .. } => Operation::Write,
        }
    }

    fn answer(self, result: Result<usize, RingError>) {
        match self {
            Work::Read { slot, reply, .. } => reply.send(Done { result, slot }),
            Work::Write { parts, reply } => {
                // Let go first, so that who waited finds the pool without the ring's share of it.
                drop(parts);
                drop(reply.send(result));
            }
        }
    }
}

impl Command {
    /// Ends it with what the kernel said. The file is let go first, so that who waited holds the only handle again.
    pub(crate) fn complete(self, result: std::io::Result<usize>) {
        let Command { file, offset, work } = self;
        drop(file);
        let (operation, len) = (work.operation(), work.len());
        work.answer(result.map_err(|source| RingError::Io { operation, len, offset, source }));
    }

    /// Ends it without an answer, which its caller notices; the file and the buffers, to be kept.
    pub(crate) fn abandon(self) -> (Arc<File>, Vec<Bytes>) {
        match self.work {
            // As bytes the slot is out of everyone's reach, like those of a write.
            Work::Read { slot, .. } => (self.file, vec![slot.fill(0).freeze()]),
            Work::Write { parts, .. } => (self.file, parts),
        }
    }

    /// Ends it unsubmitted.
    pub(crate) fn refuse(self) {
        self.work.answer(Err(RingError::Stopped));
    }
}

/// The queue from many handles to one ring thread or a few blocking ones.
pub(crate) struct Intake {
    /// One permit for each free place of the queue; closed when the ring stops.
    places: Semaphore,
    queue: Mutex<Queue>,
    /// A blocking thread may find work, or its end.
    changed: Condvar,
    submitted: AtomicU64,
    completed: AtomicU64,
    threads: Mutex<usize>,
    threads_ended: Condvar,
}

struct Queue {
    commands: VecDeque<Command>,
    stopped: bool,
    /// The ring thread, while it waits for a command.
    waker: Option<Waker>,
}

impl Intake {
    /// A queue of at most `queue_max` commands, for `threads` threads.
    pub(crate) fn new(queue_max: usize, threads: usize) -> Intake {
        Intake {
            places: Semaphore::new(queue_max),
            queue: Mutex::new(Queue {
                commands: VecDeque::with_capacity(queue_max),
                stopped: false,
                waker: None,
            }),
            changed: Condvar::new(),
            submitted: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            threads: Mutex::new(threads),
            threads_ended: Condvar::new(),
        }
    }

    /// Waits for a place in the queue; `None` once the ring is stopped.
    pub(crate) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }

    /// A place in the queue, if one is free now.
    pub(crate) fn place_now(&self) -> Option<SemaphorePermit<'_>> {
        self.places.try_acquire().ok()
    }

    /// Queues a command, or refuses it when the ring was stopped meanwhile. The place is free again once the command
    /// leaves the queue.
    pub(crate) fn push(&self, place: SemaphorePermit<'_>, command: Command) {
        let mut queue = self.queue.lock();
        if queue.stopped {
            drop(queue);
            return command.refuse();
        }
        place.forget();
        queue.commands.push_back(command);
        let waker = queue.waker.take();
        drop(queue);
        self.changed.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next command, for the ring thread; `None` once stopped.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Command>> {
        let mut queue = self.queue.lock();
        if let Some(command) = queue.commands.pop_front() {
            drop(queue);
            self.places.add_permits(1);
            return Poll::Ready(Some(command));
        }
        if queue.stopped {
            return Poll::Ready(None);
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The next command, for a blocking thread; waits until there is one, `None` once stopped.
    pub(crate) fn next(&self) -> Option<Command> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(command) = queue.commands.pop_front() {
                drop(queue);
                self.places.add_permits(1);
                return Some(command);
            }
            if queue.stopped {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }

    /// Takes no more commands and refuses those still queued; what is in flight goes on.
    pub(crate) fn stop(&self) {
        self.places.close();
        let mut queue = self.queue.lock();
        queue.stopped = true;
        let refused = std::mem::take(&mut queue.commands);
        let waker = queue.waker.take();
        drop(queue);
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        refused.into_iter().for_each(Command::refuse);
    }

    /// Counts an operation handed to the kernel.
    pub(crate) fn count_submitted(&self) {
        self.submitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a completion; called before its answer is sent, so that who was answered sees it counted.
    pub(crate) fn count_completed(&self) {
        self.completed.fetch_add(1, Ordering::Release);
    }

    /// Operations submitted and completed so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        // In this order: what is completed was submitted before, so that the difference is never negative.
        let completed = self.completed.load(Ordering::Acquire);
        (self.submitted.load(Ordering::Relaxed).max(completed), completed)
    }

    /// Waits until all threads ended, at most until the deadline; whether they did.
    pub(crate) fn wait_drained(&self, deadline: Duration) -> bool {
        let mut threads = self.threads.lock();
        let timed_out = self.threads_ended.wait_while_for(&mut threads, |threads| *threads > 0, deadline);
        !timed_out.timed_out() || *threads == 0
    }
}

/// Held by each thread of a ring for as long as it serves the intake; its drop counts, on a panic too.
pub(crate) struct Serving(pub(crate) Arc<Intake>);

impl Drop for Serving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody may wait for an answer of a ring that lost a thread to a bug.
            self.0.stop();
        }
        *self.0.threads.lock() -= 1;
        self.0.threads_ended.notify_all();
    }
}
