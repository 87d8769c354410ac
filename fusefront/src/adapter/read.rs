//! Reads of files: answered on the spot, or by the lane, with the stage clock running.

use fuser::{FileHandle, ReplyData};
use tokio::time::{Instant, timeout_at};
use wire::Extent;

use super::{Adapter, fail, handle};
use crate::{error::VfsError, metrics::Operation, stages::ReadMoments};

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
            Ok(None) => self.read_on_lane(file, extent, reply, started),
            Err(error) => fail(&self.vfs, reply, &error),
        }
    }

    fn read_on_lane(&self, file: FileHandle, extent: Extent, reply: ReplyData, started: Instant) {
        let missed = Instant::now();
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
