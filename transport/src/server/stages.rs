//! Where the host's part of a request's time goes.

use std::time::Duration;

use wire::timing::Timing;

use crate::histogram::{Counts, Histogram};

/// The times of all sessions' requests.
#[derive(Debug, Default)]
pub(super) struct Stages {
    queue: Histogram,
    read: Histogram,
    send: Histogram,
    answered: Histogram,
}

/// What a host counted of the time that requests took it, since it was bound.
#[derive(Clone, Debug)]
pub struct StageCounts {
    /// Reads of contents, from the whole request to its admission.
    pub queue: Counts,
    /// The same, from admission until the answer was whole.
    pub read: Counts,
    /// The same, from there until the mount had acked all of it.
    pub send: Counts,
    /// Requests of any kind, from the whole request until the answer was whole.
    pub answered: Counts,
}

impl Stages {
    /// An answer is whole.
    pub(super) fn answered(&self, is_read: bool, timing: Timing) {
        self.answered.record(timing.queue + timing.read);
        if is_read {
            self.queue.record(timing.queue);
            self.read.record(timing.read);
        }
    }

    /// The mount has all of the answer to a read.
    pub(super) fn sent(&self, time: Duration) {
        self.send.record(time);
    }

    pub(super) fn counts(&self) -> StageCounts {
        let Stages { queue, read, send, answered } = self;
        StageCounts {
            queue: queue.counts(),
            read: read.counts(),
            send: send.counts(),
            answered: answered.counts(),
        }
    }
}
