//! Reads of files: answered on the spot, by the disk of this machine, or by the lane, with the stage clock running.

use std::{sync::Arc, time::Duration};

use fuser::{FileHandle, ReplyData};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use wire::Extent;

use super::{Adapter, direct::Direct, fail, handle};
use crate::{
    error::VfsError,
    metrics::{Latencies, Operation},
    read::{content::Served, spent::Spent},
    stages::ReadMoments,
    vfs::Vfs,
};

/// From so many reads on, the disk has work that the ring's thread would keep from it while it replies: then the lane
/// does. Sixteen readers of 4 KiB: 36,000 a second this way and 30,000 the other; one reader: 9,300 and 6,100 the other
/// way round.
const BUSY_READS: usize = 2;

/// A read that memory did not answer.
pub(super) struct Missed {
    file: FileHandle,
    extent: Extent,
    started: Instant,
    missed: Instant,
    reply: ReplyData,
}

/// What it takes to answer a read from another thread.
pub(super) struct Reads {
    pub(super) vfs: Vfs,
    pub(super) lane: Handle,
    pub(super) deadline: Duration,
    pub(super) latencies: Arc<Latencies>,
    pub(super) direct: Arc<Direct<Missed>>,
}

impl Adapter {
    /// Answers a read of `extent`.
    pub(super) fn answer_read(&self, file: FileHandle, extent: Extent, reply: ReplyData) {
        let started = Instant::now();
        match self.vfs.read_cached(handle(file), extent) {
            Ok(Some(bytes)) => {
                let found = Instant::now();
                reply.data(&bytes);
                let replied = Instant::now();
                self.vfs.stats().read_stages.hit(started, found, replied);
                self.latencies.record_time(Operation::Read, replied - started);
            }
            Ok(None) => {
                let read = Missed { file, extent, started, missed: Instant::now(), reply };
                self.reads.on_disk(read);
            }
            Err(error) => fail(&self.vfs, reply, &error),
        }
    }
}

impl Reads {
    /// From the disk where that needs nobody else, else from the lane.
    fn on_disk(self: &Arc<Self>, read: Missed) {
        if self.vfs.l2().is_none() {
            return self.on_lane(read);
        }
        let (file, extent) = (read.file, read.extent);
        let (reads, number) = (self.clone(), self.direct.keep(read.started, read));
        let is_begun =
            self.vfs.read_direct(handle(file), extent, move |served| reads.of_disk(number, served));
        if !is_begun {
            if let Some(read) = self.direct.take(number) {
                self.on_lane(read);
            }
        } else if self.direct.wants_watch() {
            let reads = self.clone();
            self.lane.spawn(self.direct.clone().watch(move |late| reads.on_lane(late)));
        }
    }

    /// The disk said what it has. Runs on the ring's thread.
    fn of_disk(self: Arc<Self>, number: u64, served: Option<Served>) {
        // Where it was late, the lane has the read.
        let Some(read) = self.direct.take(number) else { return };
        let Some(bytes) = served else { return self.on_lane(read) };
        let ready = Instant::now();
        if self.direct.len() < BUSY_READS {
            return self.reply(read, &bytes, ready);
        }
        let lane = self.lane.clone();
        lane.spawn(async move { self.reply(read, &bytes, ready) });
    }

    fn reply(&self, read: Missed, bytes: &Served, ready: Instant) {
        let Missed { started, missed, reply, .. } = read;
        reply.data(bytes);
        let replied = Instant::now();
        let moments = ReadMoments { started, missed, taken_up: missed, ready, replied };
        let spent = Spent { l2: ready - missed, ..Spent::default() };
        self.vfs.stats().read_stages.fetched(&moments, &spent);
        self.latencies.record_time(Operation::Read, replied - started);
    }

    /// The lane reads, from wherever the bytes are, and answers at the deadline at the latest.
    fn on_lane(&self, read: Missed) {
        let Missed { file, extent, started, missed, reply } = read;
        let deadline = started + self.deadline;
        let (vfs, latencies) = (self.vfs.clone(), self.latencies.clone());
        self.lane.spawn(async move {
            let taken_up = Instant::now();
            let _held = vfs.stats().in_flight.hold();
            let read = vfs.read(handle(file), extent, deadline);
            match timeout_at(deadline, read).await.unwrap_or(Err(VfsError::Deadline)) {
                Ok(bytes) => {
                    let ready = Instant::now();
                    reply.data(&bytes);
                    let replied = Instant::now();
                    let moments = ReadMoments { started, missed, taken_up, ready, replied };
                    vfs.stats().read_stages.fetched(&moments, bytes.spent());
                    latencies.record_time(Operation::Read, replied - started);
                }
                Err(error) => {
                    fail(&vfs, reply, &error);
                    latencies.record(Operation::Read, started);
                }
            }
        });
    }
}
