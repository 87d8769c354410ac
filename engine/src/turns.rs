//! Turns at hashing.

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

use crate::error::Fault;

/// Bytes that all sessions together may have the host hash at once: as many as the answers of a host of usual memory.
const HOST_BYTES: u32 = 42 << 20;
/// The same for one session.
const SESSION_BYTES: u32 = 16 << 20;

/// Turns at hashing, in the order of asking. A verification has a small answer and a large price in processor time, so it
/// takes as many bytes as it has the host hash, or all there are: one large one at a time.
#[derive(Debug)]
pub(crate) struct Turns {
    bytes: Semaphore,
    bytes_max: u32,
}

impl Turns {
    pub(crate) fn of_host() -> Turns {
        Turns::new(HOST_BYTES)
    }

    pub(crate) fn of_session() -> Turns {
        Turns::new(SESSION_BYTES)
    }

    fn new(bytes_max: u32) -> Turns {
        Turns { bytes: Semaphore::new(bytes_max as usize), bytes_max }
    }

    pub(crate) async fn take(&self, bytes: u64, deadline: Instant) -> Result<SemaphorePermit<'_>, Fault> {
        let bytes = u32::try_from(bytes).map_or(self.bytes_max, |bytes| bytes.min(self.bytes_max));
        // Nobody closes the semaphore.
        let turn = timeout_at(deadline, self.bytes.acquire_many(bytes)).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| Fault::late("turn at hashing"))
    }
}
